"""Where a search's latencies come from: tables or devices for candidates, the devices for finalists.

Several devices become one number: the latency on the device that binds, on the scale of the first one's budget.
"""

from __future__ import annotations

import logging
import math
import numbers
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mnas.config import RunConfig
from mnas.errors import BadInput
from mnas.latency.measure import measure_networks
from mnas.latency.resolve import table_of
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.rounds import Measurement
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")





LatencyCallable = Callable[[Architecture], float]
"""Milliseconds of one run of a network."""
Measure = Callable[[Sequence[Architecture]], list[Measurement]]
"""Latency of whole networks on the device, all in the same rounds."""
PREDICTED = 0
"""Rounds of a `Measurement` that is a table's word."""


@dataclass(frozen=True)
class Source:
    """One device: what a network takes there, and what it may take."""

    device: str
    runtime: str
    threads: int
    batch: int
    budget_ms: float | None
    predict: LatencyCallable
    """Of candidates."""
    measure: Measure
    """Of finalists."""
    quick: bool = True
    """Whether `predict` answers thousands of questions a second."""
    how: Literal["measured", "predicted", "given"] = "measured"
    """How `measure` knows: by this machine, by the table of a device that is elsewhere, by the user's function."""
    doubt: str = ""
    """Why `predict` may be wrong; empty where nothing speaks against it."""


@dataclass(frozen=True)
class LatencySource:
    """All devices of a search, at least one."""

    each: tuple[Source, ...]

    @property
    def quick(self) -> bool:
        return all(source.quick for source in self.each)

    def predict(self, arch: Architecture) -> float:
        """Milliseconds of a candidate on the device that binds, on the scale of the first one's budget."""
        return max(source.predict(arch) * self._scale(source) for source in self.each)

    def measure(self, archs: Sequence[Architecture]) -> list[Measurement]:
        """Of each network the measurement that is closest to its budget, or farthest above it; scaled as `predict`."""
        found = [[_scaled(one, self._scale(source)) for one in source.measure(archs)] for source in self.each]
        return [max(row, key=upper_ms) for row in zip(*found, strict=True)]

    def shown(self, arch: Architecture) -> str:
        """What a network takes on each device, of what it may take."""
        return ", ".join(
            f"{one.predict(arch):.2f} of {one.budget_ms:g} ms with {one.runtime} on {one.device}"
            for one in self.each if one.budget_ms is not None
        )  # fmt: skip

    def _scale(self, source: Source) -> float:
        first = self.each[0].budget_ms
        return 1.0 if first is None or source.budget_ms is None else first / source.budget_ms


def upper_ms(latency: Measurement) -> float:
    """The upper end of a latency's interval: what must keep a budget."""
    return latency.median_ms + latency.spread_ms


def keeps(latency_ms: float, spread_ms: float, budget_ms: float) -> bool:
    """Whether a latency keeps the budget, its uncertainty included."""
    return latency_ms + spread_ms <= budget_ms


def latency_source(
    run: Run, space: SearchSpace, config: RunConfig, own: LatencyCallable | None, num_classes: int,
    others: Iterable[Architecture] = (),
) -> LatencySource:  # fmt: skip
    """A callable of the user's own, or for each target its table, which is made on first need, or networks timed.

    Of the networks `others`, which need not lie in the space, a table keeps the layers that it has.
    """
    if own is not None:
        known = _remembered(_positive(own))
        first = config.targets[0]
        return LatencySource((Source(
            "a device of your own", "your function latency(arch)", config.threads, config.batch, first.latency_ms,
            known, lambda archs: [Measurement(known(arch), 0.0, 1) for arch in archs], quick=False, how="given",
        ),))  # fmt: skip
    layers = {layer for arch in others for layer in arch.layers(num_classes)}
    sources = []
    for index in range(len(config.targets)):
        table, here = table_of(run, space, config, index, num_classes, layers)
        sources.append(_of_target(config, index, table, here, num_classes))
    return LatencySource(tuple(sources))






def _of_target(
    config: RunConfig, index: int, table: LatencyTable | None, here: bool, num_classes: int
) -> Source:
    target = config.targets[index]
    if table is not None and not here:
        return _by_table(table, target.latency_ms, num_classes)
    measure = _device(config, target.runtime, num_classes)
    predict = (
        _remembered(lambda arch: measure([arch])[0].median_ms)
        if table is None
        else lambda arch: table.predict(arch, num_classes)
    )
    return Source(
        get_runtime(target.runtime).device_name(), target.runtime, config.threads, config.batch, target.latency_ms,
        predict, measure, quick=table is not None, doubt=_doubt(table),
    )  # fmt: skip


def _doubt(table: LatencyTable | None) -> str:
    fit = None if table is None else table.calibration
    if fit is None or not fit.unstable:
        return ""
    return (
        f" (by a table that was made while the machine was not at rest: {fit.unstable}; remove it, the log names its "
        "file, and it is made anew)"
    )


def _by_table(table: LatencyTable, budget_ms: float | None, num_classes: int) -> Source:
    """A device that is elsewhere: its table is all that is known."""
    log.info("%s is not here: its latencies are predicted by its table, not measured", table.device)
    error = 0.0 if table.calibration is None else table.calibration.mean_error

    def predict(arch: Architecture) -> float:
        return table.predict(arch, num_classes)

    def stated(archs: Sequence[Architecture]) -> list[Measurement]:
        return [Measurement(ms, error * ms, PREDICTED) for ms in map(predict, archs)]

    return Source(table.device, table.runtime, table.threads, table.batch, budget_ms, predict, stated, how="predicted")


def _device(config: RunConfig, runtime: str, num_classes: int) -> Measure:
    rng = random.Random(config.seed)

    def measure(archs: Sequence[Architecture]) -> list[Measurement]:
        return measure_networks(
            archs, runtime=runtime, threads=config.threads, batch=config.batch, num_classes=num_classes, rng=rng,
            rounds=40,
        )  # fmt: skip

    return measure




def _scaled(latency: Measurement, factor: float) -> Measurement:
    return replace(latency, median_ms=latency.median_ms * factor, spread_ms=latency.spread_ms * factor)


def _remembered(latency: LatencyCallable) -> LatencyCallable:
    seen: dict[Architecture, float] = {}

    def known(arch: Architecture) -> float:
        if arch not in seen:
            seen[arch] = latency(arch)
        return seen[arch]

    return known


def _positive(latency: LatencyCallable) -> LatencyCallable:
    def checked(arch: Architecture) -> float:
        value: object = latency(arch)
        ms = float(value) if isinstance(value, numbers.Real) else math.nan
        if not 0 < ms < math.inf:
            raise BadInput(f"the latency callable gave {value!r}; expected milliseconds above zero")
        return ms

    return checked


def within(source: LatencySource, budget_ms: float | None) -> LatencySource:
    """`source` with this budget for its first device, which is the only one where there are several budgets."""
    return replace(source, each=(replace(source.each[0], budget_ms=budget_ms), *source.each[1:]))
