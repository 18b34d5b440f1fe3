"""ExecuTorch with XNNPACK: a program for one image, in float32 or int8."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from mnas.errors import MissingDependency
from mnas.export.checks import plain_copy
from mnas.export.formats import Model
from mnas.io.files import write_atomic

try:
    from mnas.export.pte import pte_program
except ImportError as error:
    raise MissingDependency(f"format executorch needs a package ({error}): pip install executorch") from None

RUNTIME = "executorch"
FREE_BATCH = False


def write(model: Model, path: Path) -> list[Path]:
    write_atomic(path, pte_program(plain_copy(model.network), torch.zeros(model.input_shape())))
    return [path]


def quantise(model: Model, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
    from mnas.export.quantize.executorch import quantised_program

    write_atomic(path, quantised_program(plain_copy(model.network), images, kept))
    return [path]


def operators(path: Path) -> dict[str, int]:
    from mnas.export.quantize.executorch import float_operators

    return float_operators(path)
