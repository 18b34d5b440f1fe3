"""Neural architecture search for image models on real devices."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mnas import zoo
from mnas.architecture import Architecture, Layer
from mnas.cost import Cost, cost
from mnas.errors import BadInput, Infeasible, MissingDependency, MnasError, RunLocked
from mnas.space import SearchSpace, load_space

if TYPE_CHECKING:
    from mnas.api import resume, search
    from mnas.data.sources import ImageData, load_data
    from mnas.handover import Result, Winner
    from mnas.latency.table import LatencyTable
    from mnas.nn.network import Network, build
    from mnas.nn.pretrained import load_reference
    from mnas.nn.supernet import Supernet
    from mnas.trial import Trial
    from mnas.winner import load_model

__version__ = "0.1.0"

# these import torch or optuna, so only when they are asked for
_LAZY = {
    "ImageData": "mnas.data.sources", "load_data": "mnas.data.sources", "LatencyTable": "mnas.latency.table",
    "Network": "mnas.nn.network", "build": "mnas.nn.network", "load_reference": "mnas.nn.pretrained",
    "Supernet": "mnas.nn.supernet", "Trial": "mnas.trial", "load_model": "mnas.winner", "Result": "mnas.handover",
    "Winner": "mnas.handover", "resume": "mnas.api", "search": "mnas.api",
}  # fmt: skip

__all__ = [
    "Architecture", "BadInput", "Cost", "ImageData", "Infeasible", "LatencyTable", "Layer", "MissingDependency",
    "MnasError", "Network", "Result", "RunLocked", "SearchSpace", "Supernet", "Trial", "Winner", "__version__", "build",
    "cost", "load_data", "load_model", "load_reference", "load_space", "resume", "search", "zoo",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mnas' has no attribute '{name}'")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
