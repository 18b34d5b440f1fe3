"""Measuring on a device without mnas."""
