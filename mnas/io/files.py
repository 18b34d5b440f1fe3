"""Files that are written whole or not at all, and the user's cache."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text

MAX_JSON_BYTES = 32_000_000
"""The largest file that `read_json` reads."""
NUMBERS = re.compile(r"\[\n\s+([-+.,\seE\d]*\d)\n\s+\]")
"""A list of numbers in indented JSON; no text in it has a line break."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def read_json(path: str | Path, *keys: str) -> dict[str, Any]:
    """The object in a JSON file, which has these `keys`.

    Raises BadInput where it cannot be read, is too large, is no JSON object, or lacks one of them.
    """
    content = parse_json(read_text(path, MAX_JSON_BYTES), str(path))
    for key in keys:
        if key not in content:
            raise BadInput(f"{path}: damaged, or another file: '{key}' is missing; restore it, or write it again")
    return content


def parse_json(text: str | bytes, source: str) -> dict[str, Any]:
    """The object in JSON text. Raises BadInput, which names `source`, where it is none, or too deep."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise BadInput(f"{source}: not valid JSON: nested too deep") from None
    except ValueError as error:
        raise BadInput(f"{source}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{source}: expected a mapping of keys to values, got {type(content).__name__}")
    return content


def user_cache(name: str) -> Path:
    """The folder `name` in mnas's part of the user's cache: ~/.cache/mnas on Linux, or in $XDG_CACHE_HOME."""
    return platformdirs.user_cache_path("mnas", appauthor=False) / name


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise BadInput where the disk of an existing folder has less free space."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise BadInput(
            f"{folder}: only {free / 1e6:,.0f} MB are free there, and {needed_bytes / 1e6:,.0f} MB are needed: free "
            "some space, or name another folder"
        )


@contextmanager
def disk_errors(path: Path, needed_bytes: int) -> Iterator[None]:
    """Let an OSError of the block name the file `path`, and what a full disk has and needs for it."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno in DISK_FULL:
            with suppress(OSError):
                what += f" ({needed_bytes:,} bytes are needed, {shutil.disk_usage(path.parent).free:,} are free)"
        raise OSError(error.errno, what, str(path)) from None


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write `path` whole or not at all: temporary file, fsync, rename."""
    path, data = Path(path), content.encode() if isinstance(content, str) else content
    with disk_errors(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):  # of a disk that has become read-only
                temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """Make a folder that is there whole or not at all: the block writes its files into the path that it gets.

    It takes the place of one that exists, of which it keeps the files that the block does not write.
    """
    folder = Path(folder).absolute()
    part, old = (folder.with_name(f".{folder.name}.{word}") for word in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
    try:
        with disk_errors(part, 0):
            part.mkdir(parents=True)
        yield part
        if folder.exists():
            written = functools.partial(_written, folder, part)
            shutil.copytree(folder, part, dirs_exist_ok=True, ignore=written)
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _written(folder: Path, part: Path, at: str, names: list[str]) -> list[str]:
    """Those of a folder's files, in its folder `at`, that are in `part` already."""
    place = part / Path(at).relative_to(folder)
    return [name for name in names if (place / name).is_file()]


def write_json(path: str | Path, data: Any) -> None:
    """Write readable JSON, whole or not at all; a list of numbers is one line."""
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    write_atomic(path, NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[1]).join("[]"), text) + "\n")
