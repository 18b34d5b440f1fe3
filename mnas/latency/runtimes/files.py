"""Errors of model files that users name."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnas.errors import BadInput

OF_ANOTHER_VERSION = re.compile(
    r"model IR version: \d+, max supported IR version: \d+|Opset \d+ is under development"  # onnxruntime 1.32
    r"|builtin opcode '\w+' version '\d+'|builtin_code out of range: \d+"  # LiteRT 2.3
    r"|schema version \d+ not equal to \D+\d+"  # LiteRT 2.3
    r"|unsupported opset: \w+"  # OpenVINO 2026.4
    r"|(schema|archive) version .+ does not match .+ version [^.]+"  # torch 2.13, and ours for ExecuTorch
)
"""How runtimes say of a file that another version made it."""


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
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        other = OF_ANOTHER_VERSION.search(reason or "")
        if other:
            raise BadInput(
                f"{path}: {runtime} cannot run it, since another version made it ({other[0]}): export the network "
                f"again with this version (mnas export), or install the {runtime} that goes with the file"
            ) from None
        short = textwrap.shorten(reason, 300) if reason else type(error).__name__
        raise BadInput(f"{path}: {runtime} cannot run it: {short}") from None
