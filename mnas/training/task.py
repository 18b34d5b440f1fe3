"""What a run's networks learn: the images, decoded once, and the size at which each architecture sees them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from mnas.config import RunConfig
from mnas.data.loader import cached
from mnas.data.sources import ImageData, load_data
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")


@dataclass(frozen=True)
class Task:
    """Images, and how far the sizes of training are below those of latency."""

    data: ImageData
    base: int
    """The space's largest resolution, in pixels: latency speaks of it."""
    proxy: int
    """The size at which an architecture of that resolution is trained and tested; others in proportion."""

    def size_of(self, arch: Architecture) -> int:
        """Pixels at which an architecture is trained and tested."""
        if self.proxy >= self.base:
            return arch.resolution
        return max(8, round(arch.resolution * self.proxy / self.base / 4) * 4)

    def notes(self) -> list[str]:
        """What a reader of the accuracies must know."""
        if self.proxy >= self.base:
            return []
        return [
            f"Trained and tested at {self.proxy}/{self.base} of its resolution, since the images have "
            f"{self.data.image_size} pixels; its latency speaks of the full resolution."
        ]


def task_of(config: RunConfig, space: SearchSpace, given: ImageData | None) -> Task:
    """The task of a run; it is the same in every process of the run."""
    data = given or load_data(config.data, seed=config.seed, max_broken=config.max_broken)
    base = max(space.resolutions)
    native = native_size(data, base)
    proxy = min(base, config.proxy_resolution or native)
    log.info(
        "data: %s, %d classes, %d train, %d search-validation images of %d px",
        data.name, data.num_classes, len(data.train), len(data.val), data.image_size,
    )  # fmt: skip
    if proxy < base:
        log.info(
            "accuracy speaks of %d px (the images have %d), latency of %d px; --proxy-resolution %d makes them one",
            proxy, data.image_size, base, base,
        )  # fmt: skip
    decoded = min(proxy, native)
    data = replace(data, train=cached(data.train, decoded), val=cached(data.val, decoded))
    return Task(data, base, proxy)


def native_size(data: ImageData, resolution: int) -> int:
    """Pixels at which images are trained on: `resolution`, or less where the images themselves have fewer."""
    return min(resolution, -(-data.image_size // 32) * 32)
