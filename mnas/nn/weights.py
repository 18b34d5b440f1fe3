"""Weights read from files, without running any code that a file contains."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.io.checksum import check_sum
from mnas.nn.network import Network

log = logging.getLogger("mnas")

_OTHERS: dict[str, Callable[[bytes, list[str]], bool]] = {
    "an HDF5 file, as Keras writes it; weights of TensorFlow do not fit":
        lambda start, inside: start.startswith(b"\x89HDF"),
    "a Keras model; weights of TensorFlow do not fit":
        lambda start, inside: "model.weights.h5" in inside,
    "a TFLite model; weights of TensorFlow do not fit":
        lambda start, inside: start[4:8] == b"TFL3",
    "an HTML page, so the download went wrong":
        lambda start, inside: start.lstrip().lower().startswith((b"<!doctype", b"<html")),
    "a pointer of Git LFS, so the file itself was not fetched (git lfs pull)":
        lambda start, inside: start.startswith(b"version https://git-lfs"),
    "an exported program of torch.export; save program.state_dict with torch.save":
        lambda start, inside: any(re.search("(^|/)(models/|archive_format|serialized_state_dict)", n) for n in inside),
    "an archive of NumPy arrays; save them as tensors with torch.save":
        lambda start, inside: any(name.endswith(".npy") for name in inside),
}  # fmt: skip
"""Files of other kinds, by how they begin and the names in an archive."""


def read_weights(path: str | Path) -> Any:
    """The content of a .safetensors file, of the one in a winner/ folder, or of a file that torch.save wrote.

    Raises BadInput where it cannot be read, or where its sha256 is not the one in the .sha256 file beside it.
    """
    path = weights_file(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a state dict (.safetensors, .pth, .pt) or a winner/ folder")
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        check_sum(path)
        return _load(path)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:  # the class of error depends on where a file is damaged
        raise BadInput(
            f"{path}: cannot be read as weights{_what_it_is(path)}; expected an undamaged file of tensors alone, as "
            "torch.save(network.state_dict(), ...) or safetensors writes it"
        ) from None


def _load(path: Path) -> Any:
    """The content of a file of torch.save; trainers' settings in it are read, no code is run.

    Raises BadInput with the name of an object that may not be read.
    """
    import argparse

    scalar: Any = np.float64(0).__reduce__()[0]  # numpy's own scalars, such as a best accuracy
    allowed = [argparse.Namespace, np.dtype, scalar, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?"))]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # of a damaged file
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise
        raise BadInput(
            f"{path}: holds an object of {named[1]}, which would run code when it is read; where it was written, save "
            "the weights alone: torch.save(network.state_dict(), 'weights.pt')"
        ) from None


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises BadInput where it cannot be read, or where its sha256 is not the one in the .sha256 file beside it.
    """
    path = Path(path)
    try:
        check_sum(path)
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        what = _what_it_is(path) or f" in safetensors format: {error}"
        raise BadInput(f"{path}: cannot be read as weights{what}") from None


def is_whole(path: Path) -> bool:
    """Whether there is a safetensors file that can be read, with the checksum beside it; a damaged one is logged."""
    try:
        return path.exists() and bool(read_safetensors(path))
    except BadInput as error:
        log.warning("%s", error)
        return False


def load_weights(network: Network, path: str | Path) -> None:
    """Fill `network` from a safetensors file of an equal one. Raises BadInput."""
    load_state(network, read_safetensors(path), path)


def load_state(network: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Fill `network` from the state dict of an equal one, read from `path`. Raises BadInput."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{path}: does not fit this architecture: {str(error).splitlines()[1].strip()}") from None


def weights_file(path: str | Path) -> Path:
    """The path of a winner/ folder's weights, or the path itself."""
    path = Path(path)
    return path / "weights.safetensors" if path.is_dir() else path


def _what_it_is(path: Path) -> str:
    """What a file of another kind is, as the rest of a sentence; nothing where that is not known."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
        inside = zipfile.ZipFile(path).namelist() if start.startswith(b"PK") else []
    except Exception:  # of an archive that is damaged
        return ""
    if not start:
        return ": it is empty"
    if path.suffix == ".onnx":
        return ": it is an ONNX model, not a state dict; give the weights of the PyTorch model it was exported from"
    if any("/code/" in name for name in inside):
        return (
            ": it is a TorchScript archive, a program with its weights; where it was written, save the weights alone: "
            "torch.save(torch.jit.load(...).state_dict(), 'weights.pt')"
        )
    return next((f": it is {what}" for what, matches in _OTHERS.items() if matches(start, inside)), "")
