"""A .pt2 file of torch.export, looked at before torch opens it: torch unpickles some of what it may contain."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from mnas.errors import BadInput

_PLAIN = re.compile(
    r"[^/]+/(models/\w+\.json|data/weights/weight_\d+|data/constants/tensor_\d+|archive_(format|version)|byteorder"
    r"|version|\.data/\w+|\.format_version|\.storage_alignment)"
)
"""What torch.export writes of a network and reads as text or numbers."""


def check_pickles(path: Path) -> None:
    """Raise BadInput where a .pt2 file has a part that could run code when torch reads it, or is no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            refused = next((name for name in archive.namelist() if not _is_safe(name, archive)), None)
    except (zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError, EOFError) as error:
        raise BadInput(f"{path}: no undamaged .pt2 file of torch.export ({error})") from None
    if refused is not None:
        raise BadInput(f"{path}: its part {refused} could run code when it is read; write it again: mnas export")


def _is_safe(name: str, archive: zipfile.ZipFile) -> bool:
    if re.fullmatch(r"[^/]+/data/sample_inputs/\w+\.pt", name):
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception:  # of many kinds, one of them for a pickle of anything but tensors
            return False
        return True
    if re.fullmatch(r"[^/]+/data/(weights|constants)/\w+_config\.json", name):
        return not _pickled(json.loads(archive.read(name)))
    return bool(_PLAIN.fullmatch(name))


def _pickled(stated: Any) -> bool:
    """Whether the list of tensors names one that is a pickle, or anything but a tensor."""
    entries = stated["config"].values() if isinstance(stated, dict) and isinstance(stated.get("config"), dict) else [{}]
    return not all(
        isinstance(one, dict) and one.get("use_pickle") is False
        and re.fullmatch(r"(weight|tensor)_\d+", str(one.get("path_name"))) for one in entries
    )  # fmt: skip
