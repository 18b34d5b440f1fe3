"""JSON Lines: one record a line, appended whole or not at all, read back after a kill."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.io.files import disk_errors


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line; a write that fails leaves the lines before it as they were."""
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    with disk_errors(path, len(line)), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise


def read_records(path: Path, repair: bool = True) -> list[dict[str, Any]]:
    """Every record; a last line torn by a kill is cut off, one that lacks only its newline is kept.

    Without `repair` the file stays as it is, since another process may be writing it.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    last = content[len(whole) :]
    if not repair:
        whole += last if _is_record(last) else b""
    elif last and _is_record(last):  # complete but for its newline
        with path.open("ab") as file:
            file.write(b"\n")
        whole = content + b"\n"
    elif last:
        os.truncate(path, len(whole))
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise BadInput(f"{path}, line {number}: not JSON; the file was edited by hand") from None
    return records


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
