"""Neural architecture search for image models on real devices."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mnas.errors import BadInput, Infeasible, MissingDependency, MnasError, RunLocked
from mnas.space import Architecture, Cost, Layer, SearchSpace, cost, load_space, zoo
from mnas.version import __version__

if TYPE_CHECKING:
    from mnas import samplers
    from mnas.api import resume, search, train_supernet, worker
    from mnas.commands.predict import predict
    from mnas.data.sources import ImageData, load_data
    from mnas.export.folder import load_model
    from mnas.latency.table.table import LatencyTable
    from mnas.nn.network import Network, build
    from mnas.nn.pretrained import load_reference
    from mnas.nn.supernet import Supernet
    from mnas.pipeline.winners import Result, Winner
    from mnas.study.trial import Trial

# these import torch or optuna, so they are loaded on first use
_LAZY = {
    "ImageData": "mnas.data.sources", "load_data": "mnas.data.sources", "LatencyTable": "mnas.latency.table.table",
    "Network": "mnas.nn.network", "build": "mnas.nn.network", "load_reference": "mnas.nn.pretrained",
    "Supernet": "mnas.nn.supernet", "Trial": "mnas.study.trial", "load_model": "mnas.export.folder",
    "Result": "mnas.pipeline.winners", "Winner": "mnas.pipeline.winners", "resume": "mnas.api", "search": "mnas.api",
    "train_supernet": "mnas.api", "worker": "mnas.api", "predict": "mnas.commands.predict",
}  # fmt: skip
_LAZY_MODULES = {"samplers"}

__all__ = [
    "Architecture", "BadInput", "Cost", "ImageData", "Infeasible", "LatencyTable", "Layer", "MissingDependency",
    "MnasError", "Network", "Result", "RunLocked", "SearchSpace", "Supernet", "Trial", "Winner", "__version__", "build",
    "cost", "load_data", "load_model", "load_reference", "load_space", "predict", "resume", "samplers",
    "search", "train_supernet", "worker", "zoo",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"mnas.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'mnas' has no attribute '{name}'")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
