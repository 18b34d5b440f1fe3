"""How the files of a data set become pixels: one way for all of them, from training to the exported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnas.errors import BadInput, nearest
from mnas.io.size import Size, sides

Fit = Literal["crop", "pad", "squeeze"]
FITS: tuple[Fit, ...] = ("crop", "pad", "squeeze")
FOUND_OUT = "auto"
"""Instead of a fit: `crop`, but for long images of which a probe knows more otherwise."""
PADDING = (124, 116, 104)
"""The colour of the borders that `pad` adds: the mean of ImageNet's, which is zero once it is normalised."""
MAX_PIXELS = 400_000_000
"""Larger images are taken for damaged, by default (--max-pixels); JPEGs are decoded at a part of their size."""


@dataclass(frozen=True)
class Reading:
    """How an image becomes a network's input: a square, or a rectangle of the network's shape."""

    fit: Fit = "crop"
    """crop: the central part of that shape; pad: the whole image, with borders; squeeze: the whole image, resized."""
    value_range: tuple[float, float] | None = None
    """The values that become 0 and 255 where pixels have more than 8 bits; None: 0 to 65535."""
    max_pixels: int = MAX_PIXELS
    channels: int = 3
    """1: colours become grey (ITU-R 601-2), for networks of one channel; it is repeated, and they read the first."""

    def lossless(self, height: int, width: int, shape: Size = 1) -> tuple[int, int]:
        """Height and width of the image in the shape of a size that loses nothing of an image's resolution."""
        down, across = sides(shape)
        if self.fit == "squeeze":
            area = height * width
            return max(1, round((area * down / across) ** 0.5)), max(1, round((area * across / down) ** 0.5))
        # cropping cuts off what is too long, borders add what is too short
        if (width * down > height * across) == (self.fit == "crop"):
            return height, max(1, round(height * across / down))
        return max(1, round(width * down / across)), width


AS_USUAL = Reading()


def reading_of(fit: str, max_pixels: int = MAX_PIXELS, channels: int = 3) -> Reading:
    """A reading by the options --fit, --max-pixels and --channels: `auto` crops at first. Raises BadInput."""
    if fit == FOUND_OUT:
        fit = "crop"
    if fit not in FITS:
        raise BadInput(f"--fit {fit}{nearest(fit, (FOUND_OUT, *FITS))}")
    if channels not in (1, 3):
        raise BadInput(f"--channels {channels}: expected 3, or 1 for grey images")
    return Reading(fit=fit, max_pixels=max_pixels, channels=channels)
