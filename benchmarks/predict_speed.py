"""Predictions a second: networks of v3_large that were never predicted before, and a made-up, calibrated table.

    python benchmarks/predict_speed.py

The plain loop adds up the entries of `layers()`, one after another, without the calibration. The layers of the loaded
table are equal to the networks', but not the same objects, as when it was read from a file. Medians over the rounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from common import save

from mnas import Architecture, LatencyTable, load_space
from mnas.latency.conditions import Conditions
from mnas.latency.table.calibration import Calibration, CalibrationNetworks, TableError
from mnas.latency.table.provenance import Provenance

MANY, FEW, ROUNDS = 100_000, 2_000, 3

rng = random.Random(0)
space = load_space("v3_large")
entries = {layer: rng.uniform(0.001, 1) for layer in sorted(space.layers(), key=str)}
fit = Calibration(
    0.5, 0.9, TableError(mean_error=0.01, max_error=0.03, bias=0.0, spearman=0.99),
    CalibrationNetworks(40, 20, "v3_large", space.resolutions, "2026-01-31", anchor_ms=12.5, repeatability=0.01),
)  # fmt: skip
table = LatencyTable(
    Conditions("torch"), Provenance("made up", "0", "2026-01-31", "0"), entries, calibration=fit,
    corrected={layer: 1.01 * ms for layer, ms in entries.items()},
)  # fmt: skip
loaded = replace(table, corrected={replace(layer): ms for layer, ms in table.corrected.items()})


def us_each(call: Callable[[], Any], count: int) -> float:
    """Microseconds for each of the `count` things that a call does."""
    start = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - start) / count


def fresh(count: int) -> list[Architecture]:
    return [space.sample(rng) for _ in range(count)]


def plain(archs: list[Architecture]) -> list[float]:
    return [sum(table.entries[layer] for layer in arch.layers()) for arch in archs]


def one_round() -> dict[str, float]:
    many, few, others = fresh(MANY), fresh(FEW), fresh(FEW)
    return {
        "predict_many": us_each(lambda: table.predict_many(many), MANY),
        "predict_many_loaded": us_each(lambda: loaded.predict_many(many), MANY),
        "plain_loop": us_each(lambda: plain(many), MANY),
        "predict_fresh": us_each(lambda: [table.predict(arch) for arch in few], FEW),
        "predict_known": us_each(lambda: [table.predict(arch) for arch in few], FEW),
        "predict_loaded_fresh": us_each(lambda: [loaded.predict(arch) for arch in others], FEW),
        "predict_loaded_known": us_each(lambda: [loaded.predict(arch) for arch in others], FEW),
        "sample": us_each(lambda: fresh(FEW), FEW),
        "mutate": us_each(lambda: [space.mutate(arch, rng) for arch in few], FEW),
        "difference": float(np.abs(table.layer_sums(many) / plain(many) - 1).max()),
    }


rounds = [one_round() for _ in range(ROUNDS)]
us = {name: median(one[name] for one in rounds) for name in rounds[0]}
difference = max(one["difference"] for one in rounds)
del us["difference"]
save("predict_speed", {
    "networks": MANY, "rounds": ROUNDS, "layers": len(entries),
    "predict_many_architectures_per_s": round(1e6 / us["predict_many"]),
    "factor_against_plain_loop": round(us["plain_loop"] / us["predict_many"], 1),
    "us_each": {name: round(value, 2) for name, value in us.items()},
    "largest_relative_difference_from_plain_loop": difference,
})  # fmt: skip
