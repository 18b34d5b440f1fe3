"""Search spaces, and architectures as data: layers, costs, reference networks. Imports no torch."""

from __future__ import annotations

from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head
from mnas.space.cost import Cost, cost
from mnas.space.layer import Layer, round_channels
from mnas.space.space import SearchSpace, load_space

__all__ = [
    "Architecture", "Block", "Cost", "Head", "Layer", "SearchSpace", "cost", "load_space", "round_channels", "zoo",
]  # fmt: skip
