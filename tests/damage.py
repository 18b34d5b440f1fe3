"""Damage to a file, as a full disk, a lost connection or a failing disk does it."""

from __future__ import annotations

from pathlib import Path

KINDS = ("empty", "cut in half", "last byte lost", "first bit", "a quarter in", "in the middle", "near the end")
"""The last four change one bit."""
PLACES = {"first bit": 0.0, "a quarter in": 0.25, "in the middle": 0.5, "near the end": 0.97}


def damage(path: Path, kind: str) -> None:
    """Damage a file in one way."""
    content = path.read_bytes()
    if kind in PLACES:
        path.write_bytes(flipped(content, int(PLACES[kind] * len(content)), 2))
    else:
        path.write_bytes({"empty": b"", "cut in half": content[: len(content) // 2]}.get(kind, content[:-1]))


def flipped(content: bytes, at: int, bit: int) -> bytes:
    """The content with one bit changed."""
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
