"""Files that take pixels as a camera gives them, uint8 (b, h, w, c), and normalise them inside.

Resizing to the network's input size is left to the app.
"""

from __future__ import annotations

from mnas.data.augment import MEAN, STD


def factors(channels: int) -> tuple[list[float], list[float]]:
    """Scale and offset of each channel: normalised = pixel * scale + offset."""
    scale = [1 / (255 * std) for std in STD[:channels]]
    return scale, [-mean / std for mean, std in zip(MEAN[:channels], STD[:channels], strict=True)]
