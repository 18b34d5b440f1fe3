"""Batches of images with masks or boxes, decoded by threads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnas.data.dense.samples import DenseSplit, MemorySplit, Sample, T
from mnas.data.images import BrokenImage, log, quiet_pillow
from mnas.data.loader import batch_rows, default_workers
from mnas.errors import BadInput
from mnas.io.size import Size, sides

LIMIT_BYTES = 4 * 2**30
"""The memory that decoded images may take."""


class Batch(NamedTuple, Generic[T]):
    """Images with masks or boxes."""

    images: Tensor
    """uint8 (b, 3, h, w)."""
    targets: list[T]
    """Of each image: a mask int32 (h, w), or boxes in its pixels."""
    rows: list[int]
    """Of each image: its row in the split."""


def batches(
    split: DenseSplit[T], *, batch_size: int, size: Size, generator: torch.Generator | None = None,
    order: NDArray[np.int64] | None = None, workers: int | None = None,
) -> Iterator[Batch[T]]:  # fmt: skip
    """Batches at `size`, on the CPU.

    With a generator, images are shuffled and the last partial batch is dropped unless it is the only one; without, they
    come in `order`, a list of rows, or as they are. Faulty images are named, and left out: a batch may be smaller.
    Raises BadInput past their limit.
    """
    if workers is None:
        workers = 0 if isinstance(split, MemorySplit) else default_workers()
    for rows in batch_rows(len(split), batch_size, generator, order):
        found = _read(split, rows.tolist(), size, workers)
        if found:
            pixels = torch.from_numpy(np.stack([sample.image for sample in found.values()]))
            yield Batch(pixels.permute(0, 3, 1, 2), [sample.target for sample in found.values()], list(found))


def in_memory(split: DenseSplit[T], size: Size, limit_bytes: int = LIMIT_BYTES) -> DenseSplit[T]:
    """`split` decoded once at `size`; itself, with a warning, where that takes more than `limit_bytes`.

    Faulty images are left out. Raises BadInput past their limit, or where no image is left.
    """
    needed_bytes = len(split) * math.prod(sides(size)) * 7  # colours, and the mask's four bytes
    if needed_bytes > limit_bytes:
        log.warning(
            "%d images at this size take %.1f GB of memory, more than %.1f: every epoch decodes them again", len(split),
            needed_bytes / 1e9, limit_bytes / 1e9,
        )  # fmt: skip
        return split
    found = _read(split, list(range(len(split))), size, default_workers())
    if not found:
        raise BadInput(f"none of {len(split)} images could be decoded, such as {split.path(0)}; expected image files")
    samples = list(found.values())
    pixels: NDArray[np.uint8] = np.stack([sample.image for sample in samples])
    return MemorySplit(pixels, [sample.target for sample in samples], split.fit, split.reading)


def _read(split: DenseSplit[T], rows: list[int], size: Size, workers: int) -> dict[int, Sample[T]]:
    """Row -> sample, without the faulty ones, which are recorded. Raises BadInput past their limit."""

    def one(row: int) -> Sample[T] | BrokenImage:
        try:
            return split.read(row, size)
        except BrokenImage as error:
            return error

    with quiet_pillow(), ThreadPoolExecutor(max(1, workers)) as pool:
        found = list(pool.map(one, rows)) if workers else list(map(one, rows))
    good: dict[int, Sample[T]] = {}
    for row, sample in zip(rows, found, strict=True):
        if isinstance(sample, BrokenImage):
            split.broken.add(split.path(row), str(sample))
        else:
            good[row] = sample
    return good
