"""A small disk that can be filled and emptied again, while a search runs on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BALLOON = ".balloon"


@contextmanager
def small_disk(folder: Path, megabytes: int = 16) -> Iterator[Path]:
    """A tmpfs of that size at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a tmpfs, and not in every container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, left: int = 0) -> None:
    """Leave this many bytes free."""
    with (disk / BALLOON).open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with suppress(OSError), (disk / BALLOON).open("ab", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    if left:
        os.truncate(disk / BALLOON, max(0, (disk / BALLOON).stat().st_size - left))


def empty(disk: Path) -> None:
    """Free what was filled."""
    (disk / BALLOON).unlink(missing_ok=True)
