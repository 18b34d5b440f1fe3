"""A search that takes seconds: what it is given, and an estimator and a latency that cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnas.monitor.tensorboard import TensorBoard
from mnas.space.architecture import Architecture
from mnas.space.cost import cost

TINY_SPACE = """
name: tiny
reference: mobilenet_v3_small
resolution: [32, 48]
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
stages:
  - {channels: 8,  stride: 1, depth: 1,      kernel: 3,      expansion: 1,      activation: relu}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3], se: [0, 0.25], activation: relu}
  - {channels: 24, stride: 2, depth: [1, 2], kernel: 3,      expansion: [2, 3], activation: [relu, hard_swish]}
head: {channels: 48, hidden: 64, activation: hard_swish}
bn_eps: 0.001
"""

QUICK: dict[str, Any] = {
    "recipe.epochs": 2, "proxy.epochs": 2, "recipe.images": 300, "proxy.images": 200,
    "supernet.epochs": 1, "supernet.images": 320, "finetune_epochs": 0.1, "finalists": 2, "references": 0,
    "max_table_error": 1.0,  # networks of 0.2 ms on a busy machine
}  # fmt: skip


def milliseconds(arch: Architecture) -> float:
    return cost(arch, 10).madds / 1e6


def guess(arch: Architecture) -> float:
    return min(0.99, 0.5 + cost(arch, 10).params / 1e6)


@contextmanager
def no_pictures() -> Iterator[None]:
    """Without TensorBoard's pictures, which take much of a small search's time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("pareto", "confusion"):
            patch.setattr(TensorBoard, name, lambda *args, **options: None)
        yield


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    events.Reload()  # type: ignore[no-untyped-call]
    return events
