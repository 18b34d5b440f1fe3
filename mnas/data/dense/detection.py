"""Images with boxes: image files, and what COCO's json or YOLO's text says of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnas.data.dense.geometry import fitting, moved_inside
from mnas.data.dense.samples import Boxes, Look, Sample, Truth, boxes_of
from mnas.data.dense.upright import Header, drawn_sideways, header_of, turned_boxes
from mnas.data.images import BrokenImages, decode, fitted
from mnas.data.reading import Reading
from mnas.io.size import Size

BEYOND = 0.5
"""Pixels by which a box may reach out of its image before that is counted: coordinates are rounded."""
CLIPPED = "boxes that reached out of their image, clipped"
EMPTY = "boxes without an area in their image, left out"


class Annotated(NamedTuple):
    """An image's file and its boxes as they were written."""

    path: str
    boxes: NDArray[np.float64]
    """(n, 4): x1, y1, x2, y2."""
    labels: NDArray[np.int64]
    """(n,): from 1."""
    crowd: NDArray[np.bool_]
    """(n,)."""
    size: tuple[int, int] | None = None
    """Width and height that the boxes are for, as written; None where that is not said."""
    relative: bool = False
    """Whether the boxes are in parts of the image's sides, not in pixels."""


@dataclass(frozen=True)
class DetectionSplit:
    """Image files with boxes."""

    files: Sequence[Annotated]
    broken: BrokenImages
    reading: Reading

    def __len__(self) -> int:
        return len(self.files)

    def path(self, row: int) -> str:
        return self.files[row].path

    def subset(self, rows: Sequence[int]) -> DetectionSplit:
        return replace(self, files=[self.files[row] for row in rows])

    def look(self, row: int) -> Look:
        """The labels in an image, and how many of its boxes were not inside it. Raises BrokenImage."""
        one = self.files[row]
        header = header_of(one.path)
        written, kept = _in_pixels(one, header), in_image(one, header)
        beyond = np.array([0, 0, header.width, header.height])
        outside = (np.maximum(beyond[:2] - written[:, :2], written[:, 2:] - beyond[2:]) > BEYOND).any(1)
        empty = len(one.boxes) - len(kept.labels)
        odd = Counter({CLIPPED: int((outside & _has_area(_cut(written, header))).sum()), EMPTY: empty})
        return Look(np.unique(kept.labels.numpy()), +odd)

    def read(self, row: int, size: Size) -> Sample[Boxes]:
        """RGB pixels and boxes at `size`. Raises BrokenImage."""
        one = self.files[row]
        header = header_of(one.path)
        boxes = in_image(one, header)
        pixels = decode(one.path, size, self.reading)
        return Sample(pixels, moved_inside(boxes, fitting(header.width, header.height, size, self.reading), size))

    def truth(self, row: int) -> Truth[Boxes]:
        """The boxes in the image's own pixels. Raises BrokenImage."""
        one = self.files[row]
        header = header_of(one.path)
        return Truth(header.height, header.width, in_image(one, header))

    def fit(self, sample: Sample[Boxes], size: Size) -> Sample[Boxes]:
        return boxed_resized(sample, size, self.reading)


def boxed_resized(sample: Sample[Boxes], size: Size, reading: Reading) -> Sample[Boxes]:
    """A sample fitted into another size."""
    height, width = sample.image.shape[:2]
    pixels = fitted(Image.fromarray(sample.image), size, reading)
    return Sample(pixels, moved_inside(sample.target, fitting(width, height, size, reading), size))


def in_image(one: Annotated, header: Header) -> Boxes:
    """The boxes in pixels of the upright image, cut off at its borders; those without an area are left out.

    Raises BrokenImage where they are for an image of another size.
    """
    boxes = _cut(_in_pixels(one, header), header)
    kept = _has_area(boxes)
    return boxes_of(boxes[kept], one.labels[kept], one.crowd[kept])


def _in_pixels(one: Annotated, header: Header) -> NDArray[np.float64]:
    if one.relative:
        return one.boxes * np.array([header.width, header.height] * 2)
    if one.size is not None and drawn_sideways(*one.size, header, "its annotation"):
        return turned_boxes(one.boxes, header)
    return one.boxes


def _cut(boxes: NDArray[np.float64], header: Header) -> NDArray[np.float64]:
    return np.clip(boxes, 0, np.array([header.width, header.height] * 2, np.float64))


def _has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    corners = boxes.astype(np.float32)
    return np.asarray((corners[:, 2:] > corners[:, :2]).all(1))
