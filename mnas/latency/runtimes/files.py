"""Errors of model files that users name."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnas.errors import BadInput


@contextmanager
def naming(path: str | Path, runtime: str) -> Iterator[None]:
    """Turn whatever a runtime raises on a model file into a BadInput of one line that names the file."""
    try:
        if not Path(path).is_file():
            raise FileNotFoundError(0, "no such file")
        yield
    except BadInput:
        raise
    except Exception as error:  # the runtimes' own exceptions have no common base
        reason = error.strerror if isinstance(error, OSError) else textwrap.shorten(str(error), 300)
        raise BadInput(f"{path}: {runtime} cannot run it: {reason or type(error).__name__}") from None
