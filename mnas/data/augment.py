"""Batches of uint8 images to network input, on the images' device."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mnas.data.reading import AS_USUAL
from mnas.data.trivial_augment import draw, recolour, sampling_matrices
from mnas.io.size import Size, sides

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB values in 0..1
STD = (0.229, 0.224, 0.225)


def normalise(images: torch.Tensor, size: Size) -> torch.Tensor:
    """uint8 (b, 3, h, w) to normalised float32 (b, 3, *size), channels_last; the central part of the size's shape."""
    with torch.no_grad():
        return standardise(resize(_central(images, size), size))


def augment(
    images: torch.Tensor, size: Size, *, generator: torch.Generator, flip: bool, crop: float = 0.8, ratio: float = 1.0,
    trivial: bool = False,
) -> torch.Tensor:  # fmt: skip
    """`normalise` a random window of each image, mirrored with probability 1/2 if `flip`.

    The window's sides are a part of the image's, uniform in [crop, 1]. Relative to the image's, its width over its
    height is log-uniform in [1 / ratio, ratio] at the same area, but no side is longer than the image's. It may extend
    beyond the border by (1 - crop) / 2 of the image's sides; border pixels are repeated there. crop=1 and ratio=1
    therefore only mirror. `trivial`: one random operation of TrivialAugmentWide on each window. `generator` is a CPU
    generator, so that the windows are the same on every device.
    """
    with torch.no_grad():
        images, (height, width) = _central(images, size), sides(size)
        # grid_sample does not antialias, so shrink first; the windows then only enlarge.
        pixels = resize(images, size) if is_larger(images, size) else images.float()
        theta = _windows(len(images), generator, flip, crop, ratio)
        if trivial:
            operations = draw(len(images), generator)
            theta = theta @ sampling_matrices(operations, mirrored=flip, width_over_height=width / height)
        grid = F.affine_grid(theta.to(images.device), [len(images), 3, height, width], align_corners=False)
        grid = within(grid, *pixels.shape[-2:])
        pixels = F.grid_sample(pixels.contiguous(), grid, mode="bilinear", align_corners=False)
        return standardise(recolour(pixels, operations) if trivial else pixels)


def _windows(count: int, generator: torch.Generator, flip: bool, crop: float, ratio: float) -> torch.Tensor:
    """Affine matrices (b, 2, 3) of random windows, on the CPU: from -1..1 in the window to -1..1 in the image."""
    scale, across, down, mirror = torch.rand(4, count, generator=generator)
    width = height = crop + (1 - crop) * scale
    if ratio > 1:
        stretch = ratio ** (torch.rand(count, generator=generator) - 0.5)  # the root of the width over the height
        stretch = stretch.clamp(width, 1 / width)
        width, height = width * stretch, height / stretch
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(mirror < 0.5, -width, width) if flip else width
    theta[:, 1, 1] = height
    # the first factor is the reach of the window's centre
    theta[:, 0, 2] = (2 * across - 1) * ((1 - width) + (1 - crop))
    theta[:, 1, 2] = (2 * down - 1) * ((1 - height) + (1 - crop))
    return theta


def within(grid: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A sampling grid (b, h, w, 2) cut off at the centres of the outermost pixels: grid_sample's padding_mode="border"
    is not on every device."""
    if height == width:
        return grid.clamp(1 / width - 1, 1 - 1 / width)
    for axis, pixels in enumerate((width, height)):
        grid[..., axis].clamp_(1 / pixels - 1, 1 - 1 / pixels)
    return grid


def _central(images: torch.Tensor, size: Size) -> torch.Tensor:
    """The central part of each image that has the shape of `size`."""
    height, width = images.shape[-2:]
    down, across = AS_USUAL.lossless(height, width, size)
    top, left = (height - down) // 2, (width - across) // 2
    return images[..., top : top + down, left : left + across]


def is_larger(images: torch.Tensor, size: Size) -> bool:
    height, width = sides(size)
    return images.shape[-2] > height or images.shape[-1] > width


def resize(images: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize images to `size`, as float pixels in 0..255."""
    pixels, shape = images.float(), sides(size)
    if images.shape[-2:] == shape:
        return pixels
    return F.interpolate(
        pixels, shape, mode="bilinear", align_corners=False, antialias=is_larger(images, size)
    )


def standardise(pixels: torch.Tensor) -> torch.Tensor:
    """(pixels / 255 - MEAN) / STD."""
    mean = torch.tensor(MEAN, device=pixels.device).view(3, 1, 1) * 255
    std = torch.tensor(STD, device=pixels.device).view(3, 1, 1) * 255
    return (pixels - mean).div_(std).contiguous(memory_format=torch.channels_last)
