"""Files that take pixels as a camera gives them, uint8 (b, h, w, c), and normalise them inside.

Resizing to the network's input size is left to the app.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mnas.data.augment import MEAN, STD


def factors(channels: int) -> tuple[list[float], list[float]]:
    """Scale and offset of each channel: normalised = pixel * scale + offset."""
    scale = [1 / (255 * std) for std in STD[:channels]]
    return scale, [-mean / std for mean, std in zip(MEAN[:channels], STD[:channels], strict=True)]


def as_pixels(images: Tensor) -> Tensor:
    """Normalised images (n, c, h, w) as the uint8 pixels (n, h, w, c) that such files take."""
    scale, offset = (torch.tensor(values)[:, None, None] for values in factors(images.shape[1]))
    return ((images - offset) / scale).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
