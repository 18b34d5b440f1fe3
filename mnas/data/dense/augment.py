"""Random windows, mirroring and colours, for images together with their masks or boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mnas.data.augment import is_larger, resize, standardise
from mnas.data.dense.geometry import mask_moved, moved_inside, pixels_moved
from mnas.data.dense.samples import Boxes
from mnas.data.trivial_augment import COLOURS, STRONGEST
from mnas.io.size import Size, sides

COLOURED = ("brightness", "contrast", "saturation")


@dataclass(frozen=True)
class Augmentation:
    """What is varied at random."""

    crop: float = 0.5
    """Least side of the window, as a part of the image's; 1: the whole image."""
    ratio: float = 4 / 3
    """Relative to the image's, the window's width over its height is log-uniform in [1 / ratio, ratio]."""
    flip: bool = True
    """Mirrored with probability 1/2."""
    colour: float = 0.3
    """Brightness, contrast and saturation change by up to this part."""
    visible: float = 0.3
    """Boxes of which a smaller part is in the window are left out."""
    least_side: float = 2.0
    """Boxes with a side of fewer pixels are left out."""


PLAIN = Augmentation()


def augment_masks(
    images: Tensor, masks: Sequence[Tensor] | Tensor, size: Size, *, generator: torch.Generator,
    augmentation: Augmentation = PLAIN,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Images uint8 (b, 3, h, w) as network input float32 (b, 3, *size), with masks (b, h, w) as int64 (b, *size).

    A random window of each image, mirrored and recoloured, in `size`; masks are moved along, by the nearest pixel.
    `generator` is a CPU generator, so that the windows are the same on every device. Nothing given is changed.
    """
    maps = random_maps(len(images), images.shape[-2:], size, generator=generator, augmentation=augmentation)
    stacked = masks if isinstance(masks, Tensor) else torch.stack(list(masks))
    return _input(images, maps, size, generator, augmentation), mask_moved(stacked, maps, size).long()


def augment_boxes(
    images: Tensor, boxes: Sequence[Boxes], size: Size, *, generator: torch.Generator,
    augmentation: Augmentation = PLAIN,
) -> tuple[Tensor, list[Boxes]]:  # fmt: skip
    """Images uint8 (b, 3, h, w) as network input float32 (b, 3, *size), with the boxes that are in their windows.

    As `augment_masks`; boxes are cut off at the windows' borders, and left out where too little of them remains.
    """
    maps = random_maps(len(images), images.shape[-2:], size, generator=generator, augmentation=augmentation)
    visible, least = augmentation.visible, augmentation.least_side
    kept = [moved_inside(one, way, size, visible=visible, least=least) for one, way in zip(boxes, maps, strict=True)]
    return _input(images, maps, size, generator, augmentation), kept


def random_maps(
    count: int, shape: Sequence[int], size: Size, *, generator: torch.Generator, augmentation: Augmentation
) -> Tensor:
    """Maps float64 (count, 4) of random windows inside images of `shape` (height, width) to `size`, on the CPU."""
    scale, stretch, across, down, mirror = torch.rand(5, count, generator=generator, dtype=torch.float64)
    side = augmentation.crop + (1 - augmentation.crop) * scale
    factor = augmentation.ratio ** (stretch - 0.5)  # the root of the width over the height
    factor = factor.clamp(side, 1 / side)  # no side is longer than the image's
    parts = torch.stack([side * factor, side / factor], -1)
    whole = torch.tensor([shape[1], shape[0]], dtype=torch.float64)
    output = torch.tensor(sides(size)[::-1], dtype=torch.float64)
    corners = torch.stack([across, down], -1) * (1 - parts) * whole
    scales = output / (parts * whole)
    shifts = -corners * scales
    if augmentation.flip:
        mirrored = torch.stack([mirror < 0.5, torch.zeros(count, dtype=torch.bool)], -1)
        scales, shifts = torch.where(mirrored, -scales, scales), torch.where(mirrored, output - shifts, shifts)
    return torch.cat([scales, shifts], -1)


def _input(images: Tensor, maps: Tensor, size: Size, generator: torch.Generator, augmentation: Augmentation) -> Tensor:
    """The network's input, seen through the maps."""
    with torch.no_grad():
        # grid_sample does not antialias: first as small as the smallest window needs
        down, across = (math.ceil(side / augmentation.crop) for side in sides(size))
        height, width = images.shape[-2:]
        if is_larger(images, (down, across)):
            shape = min(height, down), min(width, across)
            images = resize(images, shape)
            ratios = torch.tensor([width / shape[1], height / shape[0], 1, 1], dtype=torch.float64)
            maps = maps * ratios
        return standardise(_recoloured(pixels_moved(images.float(), maps, size), generator, augmentation.colour))


def _recoloured(pixels: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Pixels (b, 3, h, w) in 0..255 of random brightness, contrast and saturation, each image by its own."""
    if not strength:
        return pixels
    drawn = (2 * torch.rand(len(COLOURED), len(pixels), generator=generator) - 1) * strength / STRONGEST
    for name, strengths in zip(COLOURED, drawn.to(pixels.device), strict=True):
        pixels = COLOURS[name](pixels, strengths.view(-1, 1, 1, 1)).clamp_(0, 255)
    return pixels
