"""Latency tables from other tools."""
