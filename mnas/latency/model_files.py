"""The latencies of a network's files, each in the runtime that its suffix names."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mnas.latency.machine import measuring
from mnas.latency.measure import measure
from mnas.latency.runtimes import USUAL_RUNTIMES, get_runtime
from mnas.latency.timing.rounds import Measurement, RoundLimits

if TYPE_CHECKING:
    from mnas.export.dense_files import Checked

LIMITS = RoundLimits(rounds=100, seconds=60.0, precision=0.01)


def time_model_files(
    files: Mapping[str, Path], shape: Sequence[int], *, threads: int = 1, seed: int = 0
) -> dict[str, Measurement]:
    """The latency of each file by its name, for images (b, c, h, w), all in the same rounds."""
    runtimes = {name: get_runtime(USUAL_RUNTIMES[path.suffix]) for name, path in files.items()}
    with contextlib.ExitStack() as stack:
        for runtime in {runtime.name: runtime for runtime in runtimes.values()}.values():
            stack.enter_context(measuring(runtime, threads))
        example = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(seed))
        inferences = {name: runtimes[name].prepare_file(path, example, threads) for name, path in files.items()}
        return measure(inferences, LIMITS, threads=threads, rng=random.Random(seed))


def timed_rows(
    files: Sequence[Checked], shape: Sequence[int], *, threads: int = 1, seed: int = 0
) -> list[dict[str, Any]]:
    """The rows of a table of files, with their latencies: see docs/formats.md."""
    timed = time_model_files({one.name: one.path for one in files}, shape, threads=threads, seed=seed)
    rows = []
    for one in files:
        measured = timed[one.name]
        ms, half = measured.median_ms, measured.spread_ms
        rows.append(one.row() | {
            "latency_ms": ms, "latency_interval_ms": [ms - half, ms + half], "unstable": measured.unstable,
        })  # fmt: skip
    return rows
