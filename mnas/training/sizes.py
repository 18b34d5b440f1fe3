"""The image size at which each architecture is trained and tested."""

from __future__ import annotations

from dataclasses import dataclass

from mnas.data.sources import ImageData
from mnas.space.architecture import Architecture


@dataclass(frozen=True)
class TrainingSizes:
    """How far the sizes of training lie below the resolutions at which latency is measured."""

    base: int
    """The space's largest resolution, in pixels."""
    proxy: int
    """The size at which an architecture of that resolution is trained; smaller resolutions in proportion."""

    def of(self, arch: Architecture) -> int:
        """Pixels at which an architecture is trained and tested."""
        if self.proxy >= self.base:
            return arch.resolution
        return max(8, round(arch.resolution * self.proxy / self.base / 4) * 4)


def native_size(data: ImageData, resolution: int) -> int:
    """`resolution`, or the images' own size rounded up to a multiple of 32 pixels where that is smaller."""
    return min(resolution, -(-data.image_size // 32) * 32)
