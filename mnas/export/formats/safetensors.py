"""The weights alone, under mnas's names, with the architecture in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mnas.export.checks import plain_copy
from mnas.export.formats import Model
from mnas.io.files import write_atomic
from mnas.nn.network import build
from mnas.nn.weights import load_state, read_safetensors
from mnas.space.architecture import Architecture

RUNTIME = None
FREE_BATCH = True


def write(model: Model, path: Path) -> list[Path]:
    state = {name: value.detach().contiguous() for name, value in plain_copy(model.network).state_dict().items()}
    metadata = {"format": "pt", "architecture": model.architecture.to_yaml(), "classes": json.dumps(model.classes)}
    write_atomic(path, save(state, metadata))
    return [path]


def open_file(path: Path, example: Tensor) -> Callable[[Tensor], NDArray[np.float32]]:
    """The outputs of the network that the file describes."""
    del example
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    network = build(Architecture.from_yaml(metadata["architecture"], str(path)), len(json.loads(metadata["classes"])))
    load_state(network, read_safetensors(path), path)
    network.eval()

    def outputs(images: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(images).numpy()

    return outputs
