"""Checksums, so that a damaged file is found: as a file's last line, or in a .sha256 file beside it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mnas.errors import BadInput, one_line
from mnas.io.files import write_atomic
from mnas.io.strict_yaml import read_text

log = logging.getLogger("mnas")

Content = TypeVar("Content")

_LAST_LINE = re.compile(rb"# sha256: ([0-9a-f]{64})\n\Z")


# --- as the last line


def sealed(content: bytes) -> bytes:
    """`content` with its SHA-256 in a last line: a comment in YAML, and behind the end of an archive of torch.save."""
    return content + f"# sha256: {hashlib.sha256(content).hexdigest()}\n".encode()


def unsealed(content: bytes) -> bytes:
    """`content` without the line of `sealed`; ValueError where its checksum is another. Without one it is as it is."""
    found = _LAST_LINE.search(content, max(0, len(content) - 100))
    if found is None:
        return content
    body = content[: found.start()]
    if hashlib.sha256(body).hexdigest() != found[1].decode():
        raise ValueError("its checksum is not the one in its last line")
    return body


def write_kept(path: Path, content: bytes) -> None:
    """Write a sealed file, whole or not at all; the one that was there stays beside it, as NAME.previous."""
    kept = path.with_name(f".{path.name}.kept")
    with contextlib.suppress(OSError):  # there is none yet, or a file system without hard links
        kept.unlink(missing_ok=True)
        kept.hardlink_to(path)
    write_atomic(path, sealed(content))
    if kept.exists():
        kept.replace(previous(path))


def read_kept(path: Path, parse: Callable[[bytes], Content]) -> Content | None:
    """What `parse` makes of a file that `write_kept` wrote, or, where that is damaged, of the one before it.

    None, with a warning, where both are damaged; None where there is no file. What `parse` raises is damage too.
    """
    for one in (path, previous(path)):
        try:
            content = one.read_bytes()
        except FileNotFoundError:
            continue
        try:
            found = parse(unsealed(content))
        except MemoryError:
            raise
        except Exception as error:  # torch.load raises many kinds
            why = str(error) if isinstance(error, ValueError) else "it cannot be read"
            log.warning("%s: damaged, and not used (%s)", one, one_line(why))
            continue
        if one != path:
            log.warning("%s: continuing with the one saved before it", one)
        return found
    return None


def previous(path: Path) -> Path:
    """Where `write_kept` keeps what was in the file before."""
    return path.with_name(f"{path.name}.previous")


def remove_kept(path: Path) -> None:
    """Remove a file that `write_kept` wrote, and the one before it."""
    for one in (path, previous(path)):
        one.unlink(missing_ok=True)


# --- in a file beside it


def write_with_sum(path: Path, content: bytes) -> list[Path]:
    """Write a file, and its SHA-256 as `sha256sum` does, that first: with it, the file is whole or refused.

    Returns both paths.
    """
    beside = _beside(path)
    write_atomic(beside, f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    write_atomic(path, content)
    return [path, beside]


def check_sum(path: Path) -> None:
    """Raise BadInput where a file's SHA-256 is not the one in the .sha256 file beside it, if there is one."""
    beside = _beside(path)
    if beside.exists() and read_text(beside).split()[:1] != [digest_of(path)]:
        raise BadInput(f"{path}: its sha256 is not the one in {beside.name}; the file was changed or damaged")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
