"""Weights read from files, without running any code that a file contains."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text
from mnas.nn.network import Network


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
        _check_sum(path)
        return _load(path)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:  # the class of error depends on where a file is damaged
        raise BadInput(
            f"{path}: cannot be read as weights; expected an undamaged file of tensors alone, as "
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
        with torch.serialization.safe_globals(allowed):
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
        _check_sum(path)
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(f"{path}: cannot be read as weights in safetensors format: {error}") from None


def load_weights(network: Network, path: str | Path) -> None:
    """Fill `network` from a safetensors file of an equal one. Raises BadInput."""
    load_state(network, read_safetensors(path), path)


def load_state(network: Network, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Fill `network` from the state dict of an equal one, read from `path`. Raises BadInput."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{path}: does not fit this architecture: {str(error).splitlines()[1].strip()}") from None


def weights_file(path: str | Path) -> Path:
    """The path of a winner/ folder's weights, or the path itself."""
    path = Path(path)
    return path / "weights.safetensors" if path.is_dir() else path


def _check_sum(path: Path) -> None:
    digest = path.with_name(f"{path.name}.sha256")
    if digest.exists() and read_text(digest).split()[:1] != [hashlib.sha256(path.read_bytes()).hexdigest()]:
        raise BadInput(f"{path}: its sha256 is not the one in {digest.name}; the file was changed or damaged")
