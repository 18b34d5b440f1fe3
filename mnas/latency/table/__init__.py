"""Latency tables: built, corrected, calibrated, kept."""
