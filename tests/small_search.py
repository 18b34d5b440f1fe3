"""A search that takes seconds: what it is given, and an estimator and a latency that cost nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnas.architecture import Architecture
from mnas.cost import cost

QUICK: dict[str, Any] = {
    "recipe.epochs": 2, "proxy.epochs": 2, "recipe.images": 300, "proxy.images": 200,
    "supernet.epochs": 1, "supernet.images": 320, "finetune_epochs": 0.1, "finalists": 2,
    "max_table_error": 1.0,  # networks of 0.2 ms on a busy machine
}  # fmt: skip


def milliseconds(arch: Architecture) -> float:
    return cost(arch, 10).madds / 1e6


def guess(arch: Architecture) -> float:
    return min(0.99, 0.5 + cost(arch, 10).params / 1e6)


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    events.Reload()  # type: ignore[no-untyped-call]
    return events
