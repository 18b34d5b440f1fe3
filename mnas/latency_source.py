"""Where a search's latencies come from: a table or the device for candidates, the device for finalists."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnas.architecture import Architecture
from mnas.config import RunConfig
from mnas.cost import cost
from mnas.errors import BadInput
from mnas.latency.cache import table_for
from mnas.latency.device import device_name
from mnas.latency.measure import Measurement, measure_networks
from mnas.latency.table import LatencyTable
from mnas.run import Run
from mnas.space import SearchSpace

LatencyCallable = Callable[[Architecture], float]
"""Milliseconds of one run of a network."""
Measure = Callable[[Sequence[Architecture]], list[Measurement]]
"""Latency of whole networks on the device, all in the same rounds."""


@dataclass(frozen=True)
class LatencySource:
    predict: LatencyCallable
    """Of candidates."""
    measure: Measure
    """Of finalists."""
    quick: bool
    """Whether `predict` answers thousands of questions a second."""


def latency_source(
    run: Run, space: SearchSpace, config: RunConfig, own: LatencyCallable | None, num_classes: int
) -> LatencySource:
    """A callable of the user's own, or whole networks timed, or the run's table, which is made on first need."""
    if own is not None:
        known = _remembered(_positive(own))
        return LatencySource(known, lambda archs: [Measurement(known(arch), 0.0, 1) for arch in archs], quick=False)
    measure = _device(config, num_classes)
    if config.objective.latency == "measured":
        return LatencySource(_remembered(lambda arch: measure([arch])[0].median_ms), measure, quick=False)
    table = _table(run, space, config, num_classes)
    return LatencySource(lambda arch: table.predict(arch, num_classes), measure, quick=True)


def extremes(source: LatencySource, space: SearchSpace) -> tuple[Architecture, Architecture]:
    """The fastest and the slowest network of a space.

    A source that is not quick is asked about two networks alone: those of fewest and of most multiply-adds.
    """
    by = source.predict if source.quick else lambda arch: cost(arch).madds
    return space.fastest(by), space.fastest(by, slowest=True)


def _device(config: RunConfig, num_classes: int) -> Measure:
    rng = random.Random(config.seed)

    def measure(archs: Sequence[Architecture]) -> list[Measurement]:
        return measure_networks(
            archs, runtime=config.runtime, threads=config.threads, batch=config.batch, num_classes=num_classes,
            rng=rng, rounds=40,
        )  # fmt: skip

    return measure


def _table(run: Run, space: SearchSpace, config: RunConfig, num_classes: int) -> LatencyTable:
    if run.table_path.exists():
        return LatencyTable.load(run.table_path)
    layers = space.layers(num_classes)
    if config.latency_table is None:
        table = table_for(layers, runtime=config.runtime, threads=config.threads, batch=config.batch, seed=config.seed)
    else:
        table = _given_table(Path(config.latency_table), config)
    missing = table.missing(layers)
    if missing:
        raise BadInput(
            f"{config.latency_table}: lacks {len(missing)} layers of space '{space.name}' for {num_classes} classes, "
            f"such as {missing[0]}; add them: mnas latency build --space {config.space} --classes {num_classes} "
            f"-o {config.latency_table}, or leave --latency-table out"
        )
    table = replace(table, entries={layer: ms for layer, ms in table.entries.items() if layer in layers})
    table.save(run.table_path)
    return table


def _given_table(path: Path, config: RunConfig) -> LatencyTable:
    table = LatencyTable.load(path)
    if table.device != device_name():
        raise BadInput(
            f"{path}: measured on {table.device}, this is {device_name()}, where the winner would be measured: leave "
            "--latency-table out to have a table made here"
        )
    asked, there = ((one.runtime, one.threads, one.batch) for one in (config, table))
    if asked != there:
        raise BadInput(
            f"{path}: measured with runtime, threads, batch {there}, asked for {asked}: "
            "state --runtime, --threads and --batch as the table has them, or leave --latency-table out"
        )
    return table


def _remembered(latency: LatencyCallable) -> LatencyCallable:
    seen: dict[Architecture, float] = {}

    def known(arch: Architecture) -> float:
        if arch not in seen:
            seen[arch] = latency(arch)
        return seen[arch]

    return known


def _positive(latency: LatencyCallable) -> LatencyCallable:
    def checked(arch: Architecture) -> float:
        value = latency(arch)
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise BadInput(f"the latency callable gave {value!r}; expected milliseconds above zero")
        return float(value)

    return checked
