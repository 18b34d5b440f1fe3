"""One image file, decoded to RGB pixels or recorded as broken."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mnas.data.deep import deep_values, in_8_bits, is_deep
from mnas.data.reading import AS_USUAL, PADDING, Reading
from mnas.errors import BadInput
from mnas.io.size import Size, sides

log = logging.getLogger("mnas.data")

SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}

HEIF = {".heic", ".heif", ".hif"}
"""Read too, where the package pillow-heif is installed."""


@functools.cache
def readable_heif() -> bool:
    """Whether pillow reads HEIC and HEIF, with the package pillow-heif."""
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


class BrokenImage(Exception):
    """An image file cannot be decoded; the text is the reason."""


class BrokenImages:
    """The broken image files of one data source. Each is logged once; more than `limit` raise BadInput."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reasons: dict[str, str] = {}  # by path

    def add(self, path: str | Path, reason: str) -> None:
        """Record that `path` is skipped. Raises BadInput past the limit."""
        path = str(path)
        if path in self.reasons:
            return
        self.reasons[path] = reason
        log.warning("skipped a broken image: %s (%s)", path, reason)
        if len(self.reasons) > self.limit:
            first = ", ".join(list(self.reasons)[:3])
            raise BadInput(
                f"{len(self.reasons)} broken images, more than the limit of {self.limit}: {first}"
                f"{', ...' if len(self.reasons) > 3 else ''}; repair or delete them, or raise the limit: --max-broken N"
            )


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Hide pillow's warnings about odd metadata, and lift its limit for very large images, which `Reading` states."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def decode(path: str | Path, size: Size, reading: Reading = AS_USUAL) -> NDArray[np.uint8]:
    """RGB pixels uint8 (height, width, 3): upright, resized (bilinear, antialiased) to `size` as `reading` states.

    Raises BrokenImage.
    """
    with opened(path) as image:
        # JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where that still has twice the wanted pixels, even turned.
        longer = max(sides(size))
        image.draft(None, (2 * longer, 2 * longer))
        if image.width * image.height > reading.max_pixels:
            raise BrokenImage(
                f"{image.width} x {image.height} pixels, more than --max-pixels {reading.max_pixels:,}: make it smaller"
            )
        rgb = _deep_rgb(path, image, reading) if is_deep(image) else _rgb(image)
        return fitted(rgb.convert("L").convert("RGB") if reading.channels == 1 else rgb, size, reading)


def size_of(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels, read from the file's header. Raises BrokenImage."""
    with opened(path) as image:
        return image.size


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """The opened file; whatever pillow raises in the block becomes BrokenImage."""
    try:
        if Path(path).suffix.lower() in HEIF:
            readable_heif()  # in a process of its own nothing has asked yet
        with Image.open(path) as image:
            yield image
    except (MemoryError, BrokenImage):
        raise
    except Exception as error:  # pillow's plugins raise errors of many classes for a damaged file
        raise BrokenImage(_reason(error, path)) from error


class Placed(NamedTuple):
    """How an image is fitted into a size: its part `box`, resized to `shape`, with the upper left pixel at `corner`."""

    box: tuple[float, float, float, float]
    """Left, top, right and bottom in pixels of the image."""
    shape: tuple[int, int]
    """Width and height."""
    corner: tuple[int, int]
    """Left and top; what is beside `shape` is border."""


def placed(width: int, height: int, size: Size, reading: Reading) -> Placed:
    """Where an upright image of this width and height goes when it is fitted into `size` as `reading` states."""
    down, across = sides(size)
    box, shape = (0.0, 0.0, float(width), float(height)), (across, down)
    too_wide = width * down > height * across
    if reading.fit == "crop":
        part = (height * across / down, height) if too_wide else (width, width * down / across)
        left, top = (width - part[0]) / 2, (height - part[1]) / 2
        box = (left, top, min(width, left + part[0]), min(height, top + part[1]))
    elif reading.fit == "pad" and too_wide:
        shape = (across, max(1, round(height * across / width)))
    elif reading.fit == "pad":
        shape = (max(1, round(width * down / height)), down)
    return Placed(box, shape, (round((across - shape[0]) / 2), round((down - shape[1]) / 2)))


def fitted(rgb: Image.Image, size: Size, reading: Reading) -> NDArray[np.uint8]:
    """Pixels uint8 (height, width, 3) of an image, fitted into the size."""
    (down, across), (box, shape, corner) = sides(size), placed(*rgb.size, size, reading)
    small = rgb.resize(shape, Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    if shape != (across, down):
        whole = Image.new("RGB", (across, down), PADDING)
        whole.paste(small, corner)
        small = whole
    return np.asarray(small, dtype=np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    return _composed(image.convert("RGBA")) if image.has_transparency_data else image.convert("RGB")


def _deep_rgb(path: str | Path, image: Image.Image, reading: Reading) -> Image.Image:
    """An image of more than 8 bits, scaled by the range of the data set; transparency always has the whole range."""
    if reading.value_range is None and image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    values, whole = deep_values(path, image), (0.0, 2.0**16 - 1)
    scaled = in_8_bits(values, reading.value_range or whole)
    if values.ndim == 3 and values.shape[2] == 4:
        scaled[..., 3] = in_8_bits(values[..., 3], whole)
        return _composed(Image.fromarray(scaled))
    return Image.fromarray(scaled).convert("RGB")


def _composed(rgba: Image.Image) -> Image.Image:
    """The picture over white; where that leaves nothing, its colours without alpha, or else over black."""
    over_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if not _is_plain(over_white):
        return over_white
    over_black = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")
    for other in (rgba.convert("RGB"), over_black):
        if not _is_plain(other):
            _warn_of_alpha()
            return other
    return over_white


def _is_plain(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[:1, :1]).all())


@functools.cache
def _warn_of_alpha() -> None:
    log.warning(
        "pictures of which nothing is left over white (fully transparent, or white on transparent) are read without "
        "their transparency"
    )


def _reason(error: Exception, path: str | Path) -> str:
    """The first line of the error, without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).replace(repr(str(path)), "").strip() or type(error).__name__
    return text.splitlines()[0]
