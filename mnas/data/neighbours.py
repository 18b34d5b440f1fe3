"""What the nearest neighbours of small pictures know about classes: a probe that costs seconds, and no training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mnas.data.loader import batches
from mnas.data.splits import Split
from mnas.io.size import Size, sides, sized

SIDE = 16
"""Side of the pictures in pixels; of rectangles the mean of the sides."""
NEIGHBOURS = 3
LOST, ERRORS = 0.05, 3.0
"""One way to show images is worse than another where it costs the probe more accuracy than this, and more than so many
standard errors."""


def small_pictures(split: Split, shape: Size = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Standardised pixels (n, 3 * height * width) in the shape of a size, the colours first, and the labels (n,)."""
    height, width = sides(shape)
    side = SIDE / (height * width) ** 0.5
    small = max(4, round(side * height)), max(4, round(side * width))
    parts, labels = [], []
    for raw, its in batches(split, batch_size=256, size=sized(2 * small[0], 2 * small[1]), device=torch.device("cpu")):
        parts.append(F.interpolate(_cropped(raw, *small).float(), small, mode="area").flatten(1))
        labels.append(its)
    pixels = torch.cat(parts)
    pixels = pixels - pixels.mean(1, keepdim=True)
    return F.normalize(pixels).numpy(), torch.cat(labels).numpy()


def _cropped(images: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """The central part of images (b, 3, h, w) that has the shape: arrays that are to be cropped are still whole."""
    height, width = images.shape[-2:]
    tall, wide = min(height, round(width * down / across)), min(width, round(height * across / down))
    top, left = (height - tall) // 2, (width - wide) // 2
    return images[..., top : top + tall, left : left + wide]


def nearest_classes(
    known: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The most frequent class among the nearest neighbours of each image, the nearest one's where they differ."""
    order = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = labels[order]
    counts = (votes[:, :, None] == votes[:, None, :]).sum(2)
    return votes[np.arange(len(votes)), counts.argmax(1)]


def is_worse(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether `right`, of one probe by image, is worse than `other` by more than noise."""
    lost = float(other.mean() - right.mean())
    error = float(np.sqrt((right != other).mean() / len(right)))
    return lost > LOST and lost > ERRORS * error
