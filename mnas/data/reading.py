"""How the files of a data set become pixels: one way for all of them, from training to the exported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnas.errors import BadInput, nearest

Fit = Literal["crop", "pad", "squeeze"]
FITS: tuple[Fit, ...] = ("crop", "pad", "squeeze")
PADDING = (124, 116, 104)
"""The colour of the borders that `pad` adds: the mean of ImageNet's, which is zero once it is normalised."""
MAX_PIXELS = 400_000_000
"""Larger images are taken for damaged, by default (--max-pixels); JPEGs are decoded at a part of their size."""


@dataclass(frozen=True)
class Reading:
    """How an image becomes the square of a network's input."""

    fit: Fit = "crop"
    """crop: the central square; pad: the whole image, with borders; squeeze: the whole image, its sides made equal."""
    value_range: tuple[float, float] | None = None
    """The values that become 0 and 255 where pixels have more than 8 bits; None: 0 to 65535."""
    max_pixels: int = MAX_PIXELS
    channels: int = 3
    """1: colours become grey (ITU-R 601-2), for networks of one channel; it is repeated, and they read the first."""

    def side(self, width: int, height: int) -> int:
        """Side in pixels of the square that loses nothing of an image's resolution."""
        if self.fit == "crop":
            return min(width, height)
        return max(width, height) if self.fit == "pad" else round((width * height) ** 0.5)


AS_USUAL = Reading()


def reading_of(fit: str, max_pixels: int = MAX_PIXELS, channels: int = 3) -> Reading:
    """A reading by the options --fit, --max-pixels and --channels. Raises BadInput."""
    if fit not in FITS:
        raise BadInput(f"--fit {fit}{nearest(fit, FITS)}")
    if channels not in (1, 3):
        raise BadInput(f"--channels {channels}: expected 3, or 1 for grey images")
    return Reading(fit=fit, max_pixels=max_pixels, channels=channels)
