"""What all data sets have in common, whatever is known of their images."""

from __future__ import annotations

from typing import Protocol

from mnas.data.reading import Reading


class ReadImages(Protocol):
    """Some images, and how their files are read."""

    @property
    def reading(self) -> Reading: ...

    def __len__(self) -> int: ...


class Images(Protocol):
    """Images in three splits: `ImageData`, or `DenseData`."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def image_size(self) -> int:
        """The shorter side of a usual image, in pixels."""

    @property
    def train(self) -> ReadImages: ...

    @property
    def val(self) -> ReadImages:
        """The search-validation split."""

    @property
    def test(self) -> ReadImages: ...
