"""Speed of latency predictions for new networks of v3_large, with a made-up, calibrated table.

    python benchmarks/predict_speed.py

The plain loop adds up the entries of `layers()` one after another, without the calibration. The layers of the loaded
table are equal to the networks' layers, but other objects, as in a table that was read from a file. Figures are medians
over the rounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from common import options_parser, save

from mnas import Architecture, LatencyTable, SearchSpace, load_space
from mnas.latency.conditions import Conditions
from mnas.latency.table.calibration import Calibration, CalibrationNetworks, TableError
from mnas.latency.table.provenance import Provenance

MANY, FEW, ROUNDS = 100_000, 2_000, 3


def made_up_table(space: SearchSpace, rng: random.Random) -> LatencyTable:
    entries = {layer: rng.uniform(0.001, 1) for layer in sorted(space.layers(), key=str)}
    calibration = Calibration(
        0.5, 0.9, TableError(mean_error=0.01, max_error=0.03, bias=0.0, spearman=0.99),
        CalibrationNetworks(40, 20, "v3_large", space.resolutions, "2026-01-31", anchor_ms=12.5, repeatability=0.01),
    )  # fmt: skip
    return LatencyTable(
        Conditions("torch"), Provenance("made up", "0", "2026-01-31", "0"), entries, calibration=calibration,
        corrected={layer: 1.01 * ms for layer, ms in entries.items()},
    )  # fmt: skip


def loaded(table: LatencyTable) -> LatencyTable:
    """The table with equal layers that are other objects."""
    return replace(table, corrected={replace(layer): ms for layer, ms in table.corrected.items()})


def us_each(call: Callable[[], Any], count: int) -> float:
    """Microseconds for each of the `count` items that a call handles."""
    start = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - start) / count


def plain_loop(table: LatencyTable, archs: Sequence[Architecture]) -> list[float]:
    return [sum(table.entries[layer] for layer in arch.layers()) for arch in archs]


def one_round(
    space: SearchSpace, table: LatencyTable, from_file: LatencyTable, rng: random.Random, sizes: tuple[int, int]
) -> dict[str, float]:
    """Microseconds of each operation, over `sizes` new networks (many, few)."""
    def new_networks(count: int) -> list[Architecture]:
        return [space.sample(rng) for _ in range(count)]

    many_count, few_count = sizes
    many, few, others = new_networks(many_count), new_networks(few_count), new_networks(few_count)
    return {
        "predict_many": us_each(lambda: table.predict_many(many), many_count),
        "predict_many_loaded": us_each(lambda: from_file.predict_many(many), many_count),
        "plain_loop": us_each(lambda: plain_loop(table, many), many_count),
        "predict_fresh": us_each(lambda: [table.predict(arch) for arch in few], few_count),
        "predict_known": us_each(lambda: [table.predict(arch) for arch in few], few_count),
        "predict_loaded_fresh": us_each(lambda: [from_file.predict(arch) for arch in others], few_count),
        "predict_loaded_known": us_each(lambda: [from_file.predict(arch) for arch in others], few_count),
        "sample": us_each(lambda: new_networks(few_count), few_count),
        "mutate": us_each(lambda: [space.mutate(arch, rng) for arch in few], few_count),
        "difference": float(np.abs(table.layer_sums(many) / plain_loop(table, many) - 1).max()),
    }


def figures(many: int, few: int, rounds: int) -> dict[str, Any]:
    rng = random.Random(0)
    space = load_space("v3_large")
    table = made_up_table(space, rng)
    from_file = loaded(table)
    measured = [one_round(space, table, from_file, rng, (many, few)) for _ in range(rounds)]
    us = {name: median(result[name] for result in measured) for name in measured[0]}
    del us["difference"]
    return {
        "networks": many, "rounds": rounds, "layers": len(table.entries),
        "predict_many_architectures_per_s": round(1e6 / us["predict_many"]),
        "factor_against_plain_loop": round(us["plain_loop"] / us["predict_many"], 1),
        "us_each": {name: round(value, 2) for name, value in us.items()},
        "largest_relative_difference_from_plain_loop": max(result["difference"] for result in measured),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options_parser(__doc__).parse_args(arguments)
    save("predict_speed", figures(MANY, FEW, ROUNDS))


if __name__ == "__main__":
    main()
