"""A word on the command line: the name of something built in, or a path."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("mnas")


@dataclass(frozen=True)
class Names:
    """The names of one kind of thing, which a user may also state as a path: data sets, networks, search spaces."""

    kind: str
    """What a name stands for, such as "built-in data set"."""
    is_name: Callable[[str], bool]

    def path(self, value: str | Path) -> Path | None:
        """The path that `value` states, or None for a name.

        A Path, and text with a separator or a suffix, is a path. A known name is a name, even if a file or folder has
        that name too. Any other word is a path if something exists there, otherwise an unknown name.
        """
        path = Path(os.path.expanduser(value))
        if isinstance(value, Path) or _has_separator(value):
            return path
        if self.is_name(value):
            if _exists(path):
                _log_once(path.resolve(), f"'{value}' is the {self.kind}; for {_what(path)} write ./{value}")
            return None
        return path if value and (_has_suffix(path) or _exists(path)) else None

    def absolute(self, value: str | Path) -> str:
        """`value` as a run's files keep it: a name as it is; the path in full, so that it is found from any folder."""
        path = self.path(value)
        return str(value) if path is None else absolute_path(path)


def file_stem(name: str) -> str:
    """A name of anything as that of a file, without its suffix: in no other folder, not hidden, not too long."""
    return re.sub(r"[^\w@+.,= -]", "_", name)[:100].lstrip(".") or "_"


def absolute_path(path: str | Path) -> str:
    """The full path of a file or folder; as it is where nothing lies there."""
    full = Path(os.path.expanduser(path))
    return str(full.resolve()) if _exists(full) else str(path)


def _has_separator(text: str) -> bool:
    return text in (".", "..", "~") or any(separator in text for separator in (os.sep, os.altsep) if separator)


def _has_suffix(path: Path) -> bool:
    """Whether a name ends like a file's; the width of mobilenet_v2@0.75 is no suffix."""
    return bool(re.fullmatch(r"\.[a-zA-Z]\w*", path.suffix))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # such as a name that is too long
        return False


def _what(path: Path) -> str:
    return "the folder" if path.is_dir() else "the file"


@functools.cache
def _log_once(path: Path, message: str) -> None:
    log.warning("%s", message)
