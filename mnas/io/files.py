"""Files that are written whole or not at all, and the user's cache."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text


def read_json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(read_text(path))
    except ValueError:
        raise BadInput(f"{path}: not JSON") from None
    return read


def user_cache(name: str) -> Path:
    """The folder of this name in the user's cache directory, where mnas keeps what is costly to make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnas" / name


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `path` whole or not at all: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write readable JSON, whole or not at all."""
    write_atomic(path, json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
