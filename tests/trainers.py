"""Trainers for tests: on the CPU, at one size for all architectures or at their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mnas.data.sources import ImageData
from mnas.data.splits import Split
from mnas.space.architecture import Architecture
from mnas.tasks.classification import Classification
from mnas.training.precision import Precision
from mnas.training.sizes import TrainingSizes
from mnas.training.trainer import Trainer


@dataclass(frozen=True)
class SizesBy(TrainingSizes):
    """Sizes by a function of the architecture."""

    size_of: Callable[[Architecture], int] = lambda arch: arch.resolution

    def of(self, arch: Architecture) -> int:
        return self.size_of(arch)


def trainer(
    data: ImageData, size: int | Callable[[Architecture], int] | None = None, *, train: Split | None = None,
    seed: int = 0, flip: bool = False, precision: Precision = "float32",
) -> Trainer:  # fmt: skip
    """On the CPU; at `size` pixels, by default at each architecture's resolution."""
    sizes: TrainingSizes = SizesBy(0, 0)
    if size is not None:
        sizes = SizesBy(0, 0, size if callable(size) else lambda arch: size)
    data = replace(data, train=data.train if train is None else train, flip=flip)
    return Trainer(Classification(data), sizes, torch.device("cpu"), seed, precision)
