"""The version of mnas."""

__version__ = "0.1.0"
