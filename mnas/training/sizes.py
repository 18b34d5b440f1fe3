"""Input sizes: those that a search of small images tries, and the smaller one at which candidates may be estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnas.io.size import Size, sides, sized
from mnas.space.architecture import Architecture

SMALLEST = 32
"""Networks that halve their input five times need this many pixels."""
ENOUGH = 48
"""However small the images are, sizes up to this one are searched: 8x8 digits need more than 32."""
MULTIPLES = (1.0, 1.5, 2.0, 3.0)
TRIPLED = 96
"""The largest size to which images are enlarged more than twice: it takes nine times their own size's time to train,
and what enlarging gives, maps that are not a single pixel at last, twice the size gives as well."""


def native_size(image_size: int, largest: int) -> int:
    """The input size that loses nothing of images of `image_size` pixels: a multiple of 8, 32 to `largest`."""
    return min(largest, max(SMALLEST, -(-image_size // 8) * 8))


def followed_resolutions(image_size: int, resolutions: tuple[int, ...]) -> tuple[int, ...]:
    """The input sizes to search for images of `image_size` pixels: 1 to 3 times that, multiples of 8, ascending.

    Above TRIPLED, 1 to 2 times. `resolutions` are the space's: they are kept where images are as large as the largest
    of them, which is never exceeded.
    """
    if image_size >= max(resolutions):
        return resolutions
    largest = min(max(resolutions), max(ENOUGH, -(-3 * image_size // 8) * 8))
    native = native_size(image_size, largest)
    wanted = {min(largest, round(native * multiple / 8) * 8) for multiple in MULTIPLES}
    return tuple(sorted(size for size in wanted if size <= max(TRIPLED, 2 * native)))


def own_size(image_size: int, resolutions: Sequence[Size]) -> Size:
    """The smallest of the input sizes that loses nothing of images of `image_size` pixels, or the largest of all."""
    enough = [size for size in resolutions if min(sides(size)) >= max(ENOUGH, image_size)]
    return min(enough, key=sides) if enough else max(resolutions, key=sides)


def decoded_size(image_size: int, largest: Size) -> Size:
    """The size at which images of `image_size` pixels are decoded for inputs up to `largest`.

    Of a rectangle it is the largest, since its shape is not that of the images.
    """
    return native_size(image_size, largest) if isinstance(largest, int) else largest


@dataclass(frozen=True)
class TrainingSizes:
    """How far the sizes at which candidates are estimated lie below their resolutions."""

    base: int = 0
    """The largest resolution, in pixels; of rectangles the height."""
    proxy: int = 0
    """The size at which an architecture of that resolution is estimated; smaller resolutions in proportion."""

    def of(self, arch: Architecture) -> Size:
        """The size at which an architecture is trained and tested."""
        if self.proxy >= self.base:
            return arch.resolution
        height, width = (max(8, round(side * self.proxy / self.base / 4) * 4) for side in sides(arch.resolution))
        return sized(height, width)


FULL_SIZE = TrainingSizes()
"""Each architecture at its resolution."""
