"""JSON Lines: one record a line with its checksum, appended whole or not at all, read back after a kill."""

from __future__ import annotations

import errno
import json
import logging
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.io.files import disk_errors, write_atomic

log = logging.getLogger("mnas")

KEY, DIGITS = "crc32", 8
"""The last key of a line, and the digits of its value: the CRC-32 of the line before it, in hexadecimal."""


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line; a write that fails leaves the lines before it as they were."""
    body = json.dumps(record, allow_nan=False).removesuffix("}")
    line = f'{body}, "{KEY}": "{_sum(body.encode())}"}}\n'.encode()
    with disk_errors(path, len(line)), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise


def read_records(path: Path, repair: bool = True, independent: bool = True) -> list[dict[str, Any]]:
    """Every record; a last line torn by a kill is cut off, one that lacks only its newline is kept.

    A damaged line, found by its checksum, is left out with a warning, and moved to NAME.damaged; so are all others
    unless the records are `independent`. A file of which nothing is left is removed. Without `repair` the file stays as
    it is, since another process may be writing it, and a damaged line raises BadInput.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    *lines, last = content.split(b"\n")
    records = [_record(line) for line in lines]
    torn = _record(last)
    if torn is not None:  # complete but for its newline
        records.append(torn)
        lines.append(last)
    damaged = [number for number, record in enumerate(records) if record is None]
    if damaged and not repair:
        raise BadInput(f"{path}, line {damaged[0] + 1}: damaged, or edited by hand; mnas resume leaves such lines out")
    if damaged and not independent:
        damaged = list(range(len(records)))
    if damaged:
        _set_aside(path, lines, damaged)
    elif repair and torn is not None:
        with path.open("ab") as file:
            file.write(b"\n")
    elif repair and last:
        os.truncate(path, len(content) - len(last))
    left_out = set(damaged)
    return [record for number, record in enumerate(records) if record is not None and number not in left_out]


def _set_aside(path: Path, lines: list[bytes], damaged: list[int]) -> None:
    """Move the damaged lines into a file of their own."""
    aside = path.with_name(f"{path.name}.damaged")
    log.warning(
        "%s: line %s: damaged, and left out: moved to %s", path, ", ".join(str(number + 1) for number in damaged), aside
    )
    with aside.open("ab") as file:
        file.writelines(lines[number] + b"\n" for number in damaged)
    left = [line + b"\n" for number, line in enumerate(lines) if number not in set(damaged)]
    if left:
        write_atomic(path, b"".join(left))
    else:
        path.unlink()


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line, without its checksum; None for another one. Lines of earlier versions have none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record:
        return None
    last = next(reversed(record.values()))
    if isinstance(last, str) and len(last) == DIGITS:
        if last != _sum(line[: line.rfind(b', "')]):
            return None
        record.popitem()
    return record


def _sum(body: bytes) -> str:
    return f"{zlib.crc32(body):0{DIGITS}x}"
