"""TrivialAugmentWide (arXiv 2103.10158) on a whole batch: one random operation an image, at a random strength.

The operations and their largest strengths are torchvision's, with three differences. Strengths are continuous, not of
31 steps. Shifts are in proportion to the image, since 32 pixels would move a small one out of sight. A generous
rotation is for images that a mirror does not change either: it would turn a 6 into a 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

STRONGEST = 0.99
"""Largest shear, and largest change of brightness, contrast, saturation and sharpness, as a part of them."""
FARTHEST = 32 / 224
"""Largest shift as a part of the image's side: the paper's 32 pixels of ImageNet's 224."""
ROTATION, ROTATION_OF_LETTERS = 135.0, 30.0
"""Largest angle in degrees, and that for images of which a mirror would change the class."""
GEOMETRY = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


class Operations(NamedTuple):
    """One operation for each image of a batch, on the CPU."""

    kinds: Tensor
    """int64 (b,): index in NAMES."""
    strengths: Tensor
    """float32 (b,): from -1 to 1; what has no direction takes the absolute value."""


def draw(count: int, generator: torch.Generator) -> Operations:
    """Uniformly random operations and strengths for `count` images; `generator` is a CPU generator."""
    kinds = torch.randint(len(NAMES), (count,), generator=generator)
    return Operations(kinds, 2 * torch.rand(count, generator=generator) - 1)


def sampling_matrices(operations: Operations, *, mirrored: bool, width_over_height: float = 1.0) -> Tensor:
    """Affine matrices (b, 3, 3) on the CPU, for `affine_grid`: from places in the new image to places in the old.

    Both span -1..1. They are the identity but for the operations in GEOMETRY. `mirrored`: whether a mirrored image
    keeps its class. `width_over_height`: the images' shape, which a rotation must know, since both sides span -1..1.
    """
    kinds, strengths = operations
    shear_x, shear_y, shift_x, shift_y, turn = (
        torch.where(kinds == NAMES.index(name), strengths, 0.0) for name in GEOMETRY
    )
    angle = turn * math.radians(ROTATION if mirrored else ROTATION_OF_LETTERS)
    matrices = torch.eye(3).repeat(len(kinds), 1, 1)
    matrices[:, 0, 0] = matrices[:, 1, 1] = angle.cos()
    shear_x, shear_y = STRONGEST * shear_x / width_over_height, STRONGEST * shear_y * width_over_height
    matrices[:, 0, 1] = shear_x - angle.sin() / width_over_height
    matrices[:, 1, 0] = shear_y + angle.sin() * width_over_height
    # a shear keeps the first row or column where it is
    matrices[:, 0, 2] = shear_x + 2 * FARTHEST * shift_x
    matrices[:, 1, 2] = shear_y + 2 * FARTHEST * shift_y
    return matrices


def recolour(pixels: Tensor, operations: Operations) -> Tensor:
    """Carry out the operations on colours in place, on float pixels (b, 3, h, w) in 0..255; returns `pixels`."""
    kinds, strengths = operations
    for kind, name in enumerate(NAMES):
        if name in COLOURS and (images := (kinds == kind).nonzero()[:, 0]).numel():
            there = images.to(pixels.device, non_blocking=True)
            strength = strengths[images].to(pixels.device, non_blocking=True).view(-1, 1, 1, 1)
            pixels[there] = COLOURS[name](pixels[there], strength).clamp_(0, 255)
    return pixels


# --- operations on colours: pixels (k, 3, h, w), strengths (k, 1, 1, 1) ------------------------------------------


def _brightness(pixels: Tensor, strengths: Tensor) -> Tensor:
    return pixels * (1 + STRONGEST * strengths)


def _contrast(pixels: Tensor, strengths: Tensor) -> Tensor:
    return _away_from(_grey(pixels).mean((2, 3), keepdim=True), pixels, strengths)


def _saturation(pixels: Tensor, strengths: Tensor) -> Tensor:
    return _away_from(_grey(pixels), pixels, strengths)


def _sharpness(pixels: Tensor, strengths: Tensor) -> Tensor:
    """The blur has weight 5 for the pixel itself and 1 for each neighbour; the border is kept."""
    if min(pixels.shape[-2:]) < 3:
        return pixels
    rows = pixels[..., :-2, :] + pixels[..., 1:-1, :] + pixels[..., 2:, :]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]  # much quicker than avg_pool2d on a CPU
    blurred = pixels.clone()
    blurred[..., 1:-1, 1:-1] = (box + 4 * pixels[..., 1:-1, 1:-1]) / 13
    return _away_from(blurred, pixels, strengths)


def _posterize(pixels: Tensor, strengths: Tensor) -> Tensor:
    """Keep the 2 to 8 highest bits."""
    step = 2 ** (6 * strengths.abs()).round()
    return (pixels / step).floor() * step


def _solarize(pixels: Tensor, strengths: Tensor) -> Tensor:
    return torch.where(pixels >= 255 * (1 - strengths.abs()), 255 - pixels, pixels)


def _autocontrast(pixels: Tensor, strengths: Tensor) -> Tensor:
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) * (255 / (high - low).clamp(min=1e-3)), pixels)


def _equalize(pixels: Tensor, strengths: Tensor) -> Tensor:
    """Each channel's histogram made flat by a table of its 256 values, as pillow does."""
    values = pixels.round().long().flatten(2).flatten(0, 1)  # (channels of all images, h * w)
    ones = torch.ones((), device=pixels.device).expand_as(values)
    counts = torch.zeros(len(values), 256, device=pixels.device).scatter_add_(1, values, ones)
    brightest = values.amax(1, keepdim=True)
    step = ((values.shape[1] - counts.gather(1, brightest)) / 255).floor()
    below = counts.cumsum(1) - counts
    table = ((below + (step / 2).floor()) / step.clamp(min=1)).floor()
    return torch.where((step > 0).view(*pixels.shape[:2], 1, 1), table.gather(1, values).view_as(pixels), pixels)


def _grey(pixels: Tensor) -> Tensor:
    """(k, 1, h, w): luminance."""
    return 0.2989 * pixels[:, :1] + 0.587 * pixels[:, 1:2] + 0.114 * pixels[:, 2:]


def _away_from(base: Tensor, pixels: Tensor, strengths: Tensor) -> Tensor:
    """`base` at strength -1 (nearly), `pixels` at 0, and as far beyond at 1."""
    return pixels + STRONGEST * strengths * (pixels - base)


COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "sharpness": _sharpness,
    "posterize": _posterize, "solarize": _solarize, "autocontrast": _autocontrast, "equalize": _equalize,
}  # fmt: skip
NAMES = ("identity", *GEOMETRY, *COLOURS)
