"""Latencies: measured, predicted by tables, of one or several devices."""
