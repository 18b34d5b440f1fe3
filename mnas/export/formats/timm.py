"""timm: its architecture definition in a small Python file, and the weights under its names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnas.export.checks import plain_copy
from mnas.export.formats import Model
from mnas.export.timm import export_timm, load_timm, need_timm

need_timm()  # before any work

RUNTIME = None
FREE_BATCH = True


def write(model: Model, path: Path) -> list[Path]:
    return export_timm(plain_copy(model.network), model.architecture, path.parent, title=model.title)


def open_file(path: Path, example: Tensor) -> Callable[[Tensor], NDArray[np.float32]]:
    """The outputs of the network that the file builds with timm."""
    del example
    network = load_timm(path)

    def outputs(images: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(images).numpy()

    return outputs
