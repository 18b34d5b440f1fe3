"""The table of a network's files: their latencies, timed in the same rounds, beside what is known of each."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnas.commands.artifacts import Artifact, Expected
from mnas.export.formats import get_format
from mnas.latency.machine import measuring
from mnas.latency.measure import measure
from mnas.latency.runtimes import get_runtime
from mnas.latency.timing.rounds import RoundLimits

WORTHWHILE = 0.65
"""Where int8 takes more of float32's time, the table says why."""
LIMITS = RoundLimits(rounds=100, seconds=60.0, precision=0.01)


def time_files(artifacts: Sequence[Artifact], shape: Sequence[int], threads: int, seed: int) -> None:
    """Add the latencies of the files that a runtime executes, all in the same rounds."""
    runnable = [one for one in artifacts if one.ok and get_format(one.wanted.format).RUNTIME is not None]
    if not runnable:
        return
    with contextlib.ExitStack() as stack:
        runtimes = {one.wanted.format: get_runtime(str(get_format(one.wanted.format).RUNTIME)) for one in runnable}
        for runtime in {runtime.name: runtime for runtime in runtimes.values()}.values():
            stack.enter_context(measuring(runtime, threads))
        inferences = {
            nth: runtimes[one.wanted.format].prepare_file(one.files[0], _example(one, shape), threads)
            for nth, one in enumerate(runnable)
        }
        measured = measure(inferences, LIMITS, threads=threads, rng=random.Random(seed))
    for nth, one in enumerate(runnable):
        one.latency = measured[nth]


def _example(artifact: Artifact, shape: Sequence[int]) -> Tensor:
    """An input of the file, for images (b, c, h, w)."""
    if not artifact.wanted.pixels:
        return torch.rand(tuple(shape))
    batch, channels, height, width = shape
    return torch.randint(0, 256, (batch, height, width, channels), dtype=torch.uint8)


def rows_of(artifacts: Sequence[Artifact], expected: Expected | None) -> list[dict[str, Any]]:
    """The table's rows, for people and programs: see docs/formats.md."""
    rows = []
    float_ms = {
        one.wanted.format: one.latency.median_ms for one in artifacts
        if one.wanted.precision == "fp32" and not one.wanted.pixels and one.latency
    }
    for one in artifacts:
        row: dict[str, Any] = {
            "format": one.wanted.format, "precision": one.wanted.precision,
            "input": "pixels" if one.wanted.pixels else "images", "status": one.status,
            "files": [str(path) for path in one.files] if one.ok else [],
            "bytes": sum(path.stat().st_size for path in one.files) if one.ok else None,
        }
        if one.logits is not None and expected is not None:
            row |= {
                "top1": expected.accuracy(one.logits),
                "agreement": float((one.logits.argmax(1) == expected.logits.argmax(1)).mean()),
                "largest_difference": float(np.abs(one.logits - expected.logits).max()),
            }
        if one.latency is not None:
            ms, half = one.latency.median_ms, one.latency.spread_ms
            row |= {"latency_ms": ms, "latency_interval_ms": [ms - half, ms + half], "unstable": one.latency.unstable}
        if one.wanted.precision == "int8" and one.ok and not one.wanted.pixels:
            row |= {"kept_in_float": one.kept, "float_operators": one.float_operators}
            if expected is not None and one.logits is not None:
                row["accuracy_lost"] = expected.lost(one.logits)
            if one.latency is not None and one.wanted.format in float_ms:
                row["of_float32"] = one.latency.median_ms / float_ms[one.wanted.format]
                row["pays"] = row["of_float32"] <= WORTHWHILE
        rows.append(row)
    return rows
