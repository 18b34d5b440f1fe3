"""Images with their masks or boxes: one of them, a split of them, and all three splits."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnas.data.images import BrokenImages
from mnas.data.reading import Reading
from mnas.io.size import Size, sides

IGNORE_INDEX = 255
"""Pixels of this index are of no class: they count neither in the loss nor in the metrics."""
LOOKED_AT = 20
"""Images by whose size that of all is told."""
WHOLE = Reading(fit="squeeze")
"""The whole image, resized: nothing of it is lost, and no pixel of the input is spent on borders."""


@dataclass(frozen=True)
class Boxes:
    """The objects in an image."""

    boxes: Tensor
    """float32 (n, 4): x1, y1, x2, y2 in pixels."""
    labels: Tensor
    """int64 (n,): class numbers from 1; 0 is the background."""
    crowd: Tensor
    """bool (n,): boxes around many objects (COCO's iscrowd): not to be learnt, and no detection in them is wrong."""

    def only(self, rows: Tensor) -> Boxes:
        """Those of a mask (n,), or of indices."""
        return Boxes(self.boxes[rows], self.labels[rows], self.crowd[rows])


def boxes_of(boxes: NDArray[np.floating], labels: NDArray[np.int64], crowd: NDArray[np.bool_] | None = None) -> Boxes:
    """Arrays (n, 4), (n,) and (n,), by default of no crowds, as tensors."""
    no_crowd = np.zeros(len(labels), bool)
    return Boxes(
        torch.from_numpy(np.asarray(boxes, np.float32).reshape(-1, 4)), torch.from_numpy(np.asarray(labels, np.int64)),
        torch.from_numpy(no_crowd if crowd is None else np.asarray(crowd, bool)),
    )  # fmt: skip


T = TypeVar("T", Tensor, Boxes)
"""What is known of an image: a mask int32 (h, w), or boxes."""


class Sample(NamedTuple, Generic[T]):
    """An image and what is known of it, both in the pixels of the size that was asked for."""

    image: NDArray[np.uint8]
    """RGB (h, w, 3)."""
    target: T


class Truth(NamedTuple, Generic[T]):
    """What is known of an image in its own pixels, upright."""

    height: int
    width: int
    target: T


class Look(NamedTuple):
    """What an image's mask or boxes say, without its pixels."""

    classes: NDArray[np.int64]
    """The classes in it, ascending."""
    oddities: Counter[str]
    """What was corrected, and how often."""


class DenseSplit(Protocol[T]):
    """Images with masks or boxes, which are read on demand."""

    broken: BrokenImages
    reading: Reading

    def __len__(self) -> int: ...

    def path(self, row: int) -> str:
        """The name of an image."""

    def subset(self, rows: Sequence[int]) -> DenseSplit[T]:
        """The split of these images, which shares the record of broken ones."""

    def look(self, row: int) -> Look:
        """Check all of an image but its pixels. Raises BrokenImage."""

    def read(self, row: int, size: Size) -> Sample[T]:
        """An image and its target at `size`. Raises BrokenImage."""

    def truth(self, row: int) -> Truth[T]:
        """What is known of an image, without its pixels. Raises BrokenImage."""

    def fit(self, sample: Sample[T], size: Size) -> Sample[T]:
        """A sample that was read, in another size."""


class MemorySplit(Generic[T]):
    """Images (n, h, w, 3) in memory, all of one size, with their targets."""

    def __init__(
        self, images: NDArray[np.uint8], targets: Sequence[T], resize: Callable[[Sample[T], Size], Sample[T]],
        reading: Reading = WHOLE,
    ) -> None:  # fmt: skip
        """`resize` fits a sample into another size."""
        self.images: NDArray[np.uint8] = images
        self.targets: Sequence[T] = targets
        self._resize: Callable[[Sample[T], Size], Sample[T]] = resize
        self.broken, self.reading = BrokenImages(0), reading

    def __len__(self) -> int:
        return len(self.images)

    def path(self, row: int) -> str:
        return f"image {row}"

    def subset(self, rows: Sequence[int]) -> MemorySplit[T]:
        return MemorySplit(self.images[list(rows)], [self.targets[row] for row in rows], self._resize, self.reading)

    def look(self, row: int) -> Look:
        target = self.targets[row]
        values = target.labels if isinstance(target, Boxes) else target
        return Look(np.unique(values.numpy()).astype(np.int64), Counter())

    def read(self, row: int, size: Size) -> Sample[T]:
        return self.fit(Sample(self.images[row], self.targets[row]), size)

    def truth(self, row: int) -> Truth[T]:
        height, width = self.images.shape[1:3]
        return Truth(height, width, self.targets[row])

    def fit(self, sample: Sample[T], size: Size) -> Sample[T]:
        return sample if sample.image.shape[:2] == sides(size) else self._resize(sample, size)


@dataclass(frozen=True)
class DenseData(Generic[T]):
    """Images with masks or boxes in three splits."""

    name: str
    description: str
    """What the images are, for a model's card."""
    classes: tuple[str, ...]
    """Names: of a mask's indices from 0, or of the boxes' labels from 1, without the background."""
    train: DenseSplit[T]
    val: DenseSplit[T]
    """The search-validation split."""
    test: DenseSplit[T]
    """Not looked at before it is read."""
    ignore_index: int = IGNORE_INDEX
    """Of masks."""

    @property
    def num_classes(self) -> int:
        """The number of classes, of boxes without the background."""
        return len(self.classes)

    @functools.cached_property
    def image_size(self) -> int:
        """The shorter side in pixels: the median over the first validation images, which keep their size."""
        truths = [self.val.truth(row) for row in range(min(LOOKED_AT, len(self.val)))]
        return round(statistics.median(min(one.height, one.width) for one in truths))
