"""Splits of a data source: arrays or image files with labels, and their stratified division."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mnas.data.images import BrokenImage, BrokenImages, decode, quiet_pillow, size_of
from mnas.data.reading import AS_USUAL, PADDING, Reading
from mnas.errors import BadInput
from mnas.io.size import Size, sides

Indices = Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor
SAMPLE = 101  # image files whose headers are read to find the native size of a folder


class Split(Protocol):
    """Labelled images that are read on demand."""

    reading: Reading

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each image, (n,)."""

    def __len__(self) -> int: ...

    def fetch(self, indices: Indices, size: Size) -> torch.Tensor:
        """Images uint8 (len(indices), 3, h, w) on the CPU; of `size` where they are decoded from files."""

    def subset(self, rows: NDArray[np.int64]) -> Split:
        """The split of these images."""

    def aspect_ratio(self, shape: Size = 1) -> float:
        """How many times longer the images are than the shape of a size: by default, the longer side over the shorter.
        """


class ArraySplit:
    """Images of one size in memory or a mapped file: uint8 (n, h, w) or (n, h, w, 1 | 3 | 4), with labels (n,).

    Images and labels may be functions that return the array; they are called on first use. `rows` selects and orders
    the images. `reading` says what becomes of images that do not have the network's shape.
    """

    def __init__(
        self,
        images: NDArray[np.uint8] | Callable[[], NDArray[np.uint8]],
        labels: NDArray[Any] | Callable[[], NDArray[Any]],
        rows: NDArray[np.int64] | None = None,
        reading: Reading = AS_USUAL,
    ) -> None:
        self._images, self._labels, self.rows, self.reading = images, labels, rows, reading
        self.resident: dict[tuple[torch.device, float], torch.Tensor] = {}  # copies made by `loader.on_device`

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """All images of the array, including those that `rows` leaves out."""
        return self._images() if callable(self._images) else self._images

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        labels = np.asarray(self._labels() if callable(self._labels) else self._labels).astype(np.int64)
        return labels if self.rows is None else labels[self.rows]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: NDArray[np.int64]) -> ArraySplit:
        """The split of these images, which shares the array."""
        return ArraySplit(self.images, self._labels, rows if self.rows is None else self.rows[rows], self.reading)

    def native_size(self) -> int:
        """Side in pixels of the square that loses nothing of the images."""
        height, width = self.images.shape[1:3]
        return self.reading.lossless(height, width)[0]

    def aspect_ratio(self, shape: Size = 1) -> float:
        """How many times longer the images are than the shape of a size."""
        height, width = self.images.shape[1:3]
        return _times_longer(width, height, shape)

    def fetch(self, indices: Indices, size: Size) -> torch.Tensor:
        """Images uint8 (len(indices), 3, h, w) at their native resolution, grey ones repeated to 3 channels.

        They have the shape of `size`, but for those that are to be cropped: their sides are cut off with the next
        resizing.
        """
        rows = np.asarray(indices, dtype=np.int64)
        batch = self.images[rows if self.rows is None else self.rows[rows]]
        if batch.ndim == 3:
            batch = batch[..., None]
        if batch.shape[-1] == 4:
            batch = _on_white(batch)
        images = torch.from_numpy(batch).permute(0, 3, 1, 2)
        if images.shape[1] == 3 and self.reading.channels == 1:
            images = _grey(images)
        images = images.repeat(1, 3, 1, 1) if images.shape[1] == 1 else images
        return _whole(images, size, self.reading)


class Decoded(NamedTuple):
    """Decoded image files: pixels uint8 (k, height, width, 3), their indices (k,), and the broken files."""

    images: NDArray[np.uint8]
    indices: NDArray[np.int64]
    broken: list[tuple[str, str]]  # path, reason


class FolderSplit:
    """Image files with labels (n,), decoded on each fetch."""

    def __init__(
        self, paths: Sequence[str | Path], labels: NDArray[np.int64], broken: BrokenImages,
        reading: Reading = AS_USUAL,
    ) -> None:  # fmt: skip
        self.paths, self.labels = [str(path) for path in paths], labels
        self.broken, self.reading = broken, reading

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: NDArray[np.int64]) -> FolderSplit:
        """The split of these images, which shares the record of broken ones."""
        return FolderSplit([self.paths[i] for i in rows], self.labels[rows], self.broken, self.reading)

    def native_size(self) -> int:
        """Side in pixels of the square that loses nothing: the median over a sample of files. Raises BadInput."""
        return int(np.median([self.reading.lossless(height, width)[0] for width, height in self._sides]))

    def aspect_ratio(self, shape: Size = 1) -> float:
        """How many times longer the images are than the shape of a size: the median over a sample. Raises BadInput."""
        return float(np.median([_times_longer(width, height, shape) for width, height in self._sides]))

    @cached_property
    def _sides(self) -> list[tuple[int, int]]:
        """Width and height in pixels of a sample, from the files' headers."""
        sample = [self.paths[i] for i in np.linspace(0, len(self) - 1, min(SAMPLE, len(self))).astype(int)]
        found: list[tuple[int, int]] = []
        reason = ""
        with quiet_pillow():
            for path in sample:
                try:
                    found.append(size_of(path))
                except BrokenImage as error:
                    reason = f"{path}: {error}"
        if not found:
            raise BadInput(f"None of {len(sample)} image files could be read ({reason}); expected a folder of images.")
        return found

    def fetch(self, indices: Indices, size: Size) -> torch.Tensor:
        """Images uint8 (len(indices), 3, h, w) of `size`.

        Raises BadInput for a broken image, since omitting it would shift the labels; `loader.batches` and
        `loader.cached` omit it together with its label.
        """
        decoded = decode_files(self.paths, np.asarray(indices, dtype=np.int64), size, self.reading)
        for path, reason in decoded.broken:
            raise BadInput(f"{path} cannot be decoded ({reason}); repair or delete it.")
        return torch.from_numpy(decoded.images).permute(0, 3, 1, 2)


S = TypeVar("S", ArraySplit, FolderSplit)


class SourceSplits(NamedTuple, Generic[S]):
    """The class names and splits of a data source; val and test are None where it has none."""

    classes: tuple[str, ...]
    train: S
    val: S | None = None
    test: S | None = None


def decode_files(
    paths: Sequence[str | Path], indices: NDArray[np.int64], size: Size, reading: Reading
) -> Decoded:
    """Decode the image files at `indices` of `paths`; broken ones are left out."""
    images = np.empty((len(indices), *sides(size), 3), np.uint8)
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    with quiet_pillow():
        for i in indices.tolist():
            try:
                images[len(kept)] = decode(paths[i], size, reading)
                kept.append(i)
            except BrokenImage as error:
                broken.append((str(paths[i]), str(error)))
    return Decoded(images[: len(kept)], np.asarray(kept, np.int64), broken)


def stratified(
    labels: NDArray[np.integer[Any]], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide images into (rest, part), as sorted indices: `part` has `fraction` of each class, rounded.

    A class of at least two images has at least one on each side; a class of one image is in `rest`.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, min(int(len(members) * fraction + 0.5), len(members) - 1))
        if len(members) > 1:
            chosen[members[:count]] = True
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def limited(split: Split, images: int | None, seed: int) -> Split:
    """About `images` images of `split`, drawn in equal proportion from every class; all of them for None."""
    if images is None or images >= len(split):
        return split
    part = stratified(split.labels, images / len(split), seed)[1]
    return split.subset(part) if len(part) else split  # empty where every class has one image


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA pixels blended with a white background."""
    alpha = rgba[..., 3:].astype(np.uint32)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Colours uint8 (b, 3, h, w) as grey levels (b, 1, h, w), as pillow computes them (ITU-R 601-2)."""
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).view(3, 1, 1)
    return (((images.int() * weights).sum(1, keepdim=True) + 0x8000) >> 16).to(torch.uint8)


def _whole(images: torch.Tensor, size: Size, reading: Reading) -> torch.Tensor:
    """Images uint8 (b, 3, h, w) in the shape of `size`, all of them; as they are where they are to be cropped.

    A size of 0 stands for squares.
    """
    height, width = images.shape[-2:]
    shape = size or 1
    if reading.fit == "crop" or _times_longer(width, height, shape) == 1:
        return images
    down, across = reading.lossless(height, width, shape)
    if (down, across) == (height, width):
        return images
    if reading.fit == "squeeze":
        squeezed = F.interpolate(images.float(), (down, across), mode="bilinear", align_corners=False, antialias=True)
        return squeezed.round_().clamp_(0, 255).to(torch.uint8)
    padded = torch.tensor(PADDING, dtype=torch.uint8).view(3, 1, 1).repeat(len(images), 1, down, across)
    top, left = round((down - height) / 2), round((across - width) / 2)
    padded[..., top : top + height, left : left + width] = images
    return padded


def _times_longer(width: int, height: int, shape: Size) -> float:
    """How many times longer, wide or tall, an image is than the shape of a size."""
    down, across = sides(shape)
    both = width * down, height * across
    return max(both) / min(both)
