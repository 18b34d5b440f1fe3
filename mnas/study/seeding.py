"""The networks that a study begins with."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")



def references(space: SearchSpace) -> Iterable[tuple[Architecture, str]]:
    """The zoo's networks that lie in the space, at full width and each resolution, largest first, with their names."""
    for resolution in sorted(space.resolutions, reverse=True):
        for name in sorted(zoo.names(), key=lambda name: name != space.reference):
            arch = zoo.get(name, resolution=resolution)
            if arch in space:
                yield arch, name if resolution == max(space.resolutions) else f"{name}/{resolution}"
