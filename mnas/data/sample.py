"""Some images of a split as a network takes them: to compare files on, or to find the ranges of int8."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.splits import Split
from mnas.io.size import Size

CALIBRATION = 128
"""Training images that give the ranges of int8."""


def sample_images(split: Split, count: int, size: Size) -> tuple[Tensor, NDArray[np.int64]]:
    """Up to `count` normalised images (n, c, h, w) and their labels (n,), at random, but the same ones each time."""
    order = np.random.default_rng(0).permutation(len(split))[:count]
    parts = list(batches(split, batch_size=64, size=size, device=torch.device("cpu"), order=order))
    images = [normalise(raw, size)[:, : split.reading.channels] for raw, _ in parts]
    return torch.cat(images).contiguous(), torch.cat([labels for _, labels in parts]).numpy()
