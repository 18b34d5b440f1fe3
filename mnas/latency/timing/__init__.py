"""Timing in rounds; Python 3.8 alone, since kits copy most of these files."""
