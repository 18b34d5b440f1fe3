"""The latencies of a search: predicted or measured on each device, and combined into one number.

With several devices, a network's latency is that on the binding device, scaled to the first device's budget.
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
from mnas.latency.conditions import Conditions
from mnas.latency.machine import check_threads
from mnas.latency.remembered import remembered_beside
from mnas.latency.resolve import resolve_table
from mnas.latency.runtimes import get_runtime
from mnas.latency.speed import Expectation, MeasuredHere
from mnas.latency.table.anchors import Anchor
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.rounds import Measurement, RoundLimits
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")

LatencyCallable = Callable[[Architecture], float]
"""Milliseconds of a network's inference."""
Measure = Callable[[Sequence[Architecture]], list[Measurement]]
"""Latencies of whole networks on a device, all in the same rounds; at its table's speed where it has one."""
PREDICTED = 0
"""`rounds` of a `Measurement` that was predicted by a table."""
FINALIST_ROUNDS = 40


@dataclass(frozen=True)
class DeviceLatency:
    """The latencies of networks on one device, and the budget there."""

    device: str
    conditions: Conditions
    budget_ms: float | None
    predict: LatencyCallable
    """Latency of a candidate."""
    measure: Measure
    """Latencies of finalists."""
    quick: bool = True
    """Whether `predict` takes less than a millisecond."""
    how: Literal["measured", "predicted", "given"] = "measured"
    """What `measure` does: measure on this machine, predict by a table, or call the user's function."""
    caveat: str = ""
    """Why `predict` may be wrong, for error messages; empty where nothing is known against it."""

    runtime = property(lambda self: self.conditions.runtime)

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """Networks of the device's table that show the machine's speed; none where `measure` needs none."""
        return self.measure.anchors if isinstance(self.measure, MeasuredHere) else ()


@dataclass(frozen=True)
class LatencyModel:
    """The latencies on all devices of a search, at least one."""

    devices: tuple[DeviceLatency, ...]

    @property
    def quick(self) -> bool:
        """Whether `predict` takes less than a millisecond."""
        return all(device.quick for device in self.devices)

    def predict(self, arch: Architecture) -> float:
        """Milliseconds of a candidate on the binding device, scaled to the first device's budget."""
        return max(device.predict(arch) * self._scale(device) for device in self.devices)

    def measure(self, archs: Sequence[Architecture]) -> list[Measurement]:
        """Each network's measurement on the binding device, scaled as `predict`."""
        # a table that lacks a layer says so before anything is measured
        ordered = sorted(self.devices, key=lambda device: device.how == "measured")
        by_device = [
            [_scaled(measurement, self._scale(device)) for measurement in device.measure(archs)]
            for device in ordered
        ]
        return [max(measurements, key=upper_ms) for measurements in zip(*by_device, strict=True)]

    def shown(self, arch: Architecture) -> str:
        """A network's predicted latency on each device, and the budget there."""
        return ", ".join(
            f"{device.predict(arch):.2f} of {device.budget_ms:g} ms with {device.runtime} on {device.device}"
            for device in self.devices if device.budget_ms is not None
        )  # fmt: skip

    def _scale(self, device: DeviceLatency) -> float:
        first = self.devices[0].budget_ms
        return 1.0 if first is None or device.budget_ms is None else first / device.budget_ms


def upper_ms(latency: Measurement) -> float:
    """The upper end of a latency's interval: what must keep a budget."""
    return latency.median_ms + latency.spread_ms


def keeps(latency_ms: float, spread_ms: float, budget_ms: float) -> bool:
    """Whether a latency keeps the budget, its uncertainty included."""
    return latency_ms + spread_ms <= budget_ms


def with_budget(model: LatencyModel, budget_ms: float | None) -> LatencyModel:
    """`model` with this budget for its first device, the only one where a search has several budgets."""
    return replace(model, devices=(replace(model.devices[0], budget_ms=budget_ms), *model.devices[1:]))


def latency_model(
    run: Run, space: SearchSpace, config: RunConfig, user_latency: LatencyCallable | None, num_classes: Outputs,
    others: Iterable[Architecture] = (),
) -> LatencyModel:  # fmt: skip
    """The latency model of a run: the user's callable; or for each target its table, or whole networks timed.

    Tables are built where needed. They keep the layers of the networks `others`, which may lie outside the space.
    BadInput for a table that cannot be used and for more threads than this machine has cores, if it measures.
    """
    if user_latency is not None:
        return LatencyModel((_by_callable(user_latency, config),))
    layers = {layer for arch in others for layer in arch.layers(num_classes)}
    devices = []
    for index in range(len(config.targets)):
        table, here = resolve_table(run, space, config, index, num_classes, layers)
        devices.append(_of_target(config, index, table, here, num_classes))
    return LatencyModel(tuple(devices))


def tabled_model(config: RunConfig, tables: Sequence[LatencyTable], num_classes: Outputs) -> LatencyModel:
    """The latency model of a run elsewhere, by the tables of its targets: nothing is measured here."""
    pairs = zip(config.targets, tables, strict=True)
    return LatencyModel(tuple(_by_table(table, target.latency_ms, num_classes) for target, table in pairs))


def _by_callable(user_latency: LatencyCallable, config: RunConfig) -> DeviceLatency:
    predict = _memoized(_checked(user_latency))
    return DeviceLatency(
        "a device of your own", Conditions("your function latency(arch)", config.threads, config.batch),
        config.targets[0].latency_ms, predict, lambda archs: [Measurement(predict(arch), 0.0, 1) for arch in archs],
        quick=False, how="given",
    )  # fmt: skip


def _of_target(
    config: RunConfig, index: int, table: LatencyTable | None, here: bool, num_classes: Outputs
) -> DeviceLatency:
    target = config.targets[index]
    if table is not None and not here:
        log.info("latencies on %s are predicted by its table: that device cannot be measured from here", table.device)
        return _by_table(table, target.latency_ms, num_classes)
    conditions = Conditions(target.runtime, config.threads, config.batch)
    check_threads(conditions.threads)
    anchors = _anchors(table)
    measure = MeasuredHere(
        conditions, RoundLimits(FINALIST_ROUNDS), num_classes, random.Random(config.seed), anchors,
        _expectation(table, num_classes), remembered_beside(anchors),
    )  # fmt: skip
    predict = (
        _memoized(lambda arch: measure([arch])[0].median_ms)
        if table is None
        else lambda arch: table.predict(arch, num_classes)
    )
    return DeviceLatency(
        get_runtime(target.runtime).device_name(), conditions, target.latency_ms, predict, measure,
        quick=table is not None, caveat=_caveat(table),
    )  # fmt: skip


def _expectation(table: LatencyTable | None, num_classes: Outputs) -> Expectation | None:
    """What a calibrated table says about networks of which it has all layers."""
    if table is None or table.calibration is None:
        return None

    def predict(arch: Architecture) -> float | None:
        return None if table.missing(arch.layers(num_classes)) else table.predict(arch, num_classes)

    return Expectation(predict, table.calibration.error.mean_error)


def _anchors(table: LatencyTable | None) -> tuple[Anchor, ...]:
    """The networks that show the machine's speed; a table without any is said, since a busy machine then counts."""
    if table is None:
        return ()
    anchors = () if table.calibration is None else table.calibration.anchors
    if not anchors:
        log.info(
            "the latency table keeps no networks to compare the machine's speed with: networks count as measured, also "
            "on a slow minute; mnas latency build -o FILE adds them to a table"
        )
    return anchors


def _caveat(table: LatencyTable | None) -> str:
    unstable = "" if table is None or table.calibration is None else table.calibration.networks.unstable
    if not unstable:
        return ""
    return (
        f" (by a table that was measured on a busy machine: {unstable}; remove the table's file, which the log names, "
        "to have it measured again)"
    )


def _by_table(table: LatencyTable, budget_ms: float | None, num_classes: Outputs) -> DeviceLatency:
    """A device that is elsewhere: finalists are predicted by its table too."""
    error = 0.0 if table.calibration is None else table.calibration.error.mean_error

    def predict(arch: Architecture) -> float:
        return table.predict(arch, num_classes)

    def predict_all(archs: Sequence[Architecture]) -> list[Measurement]:
        return [Measurement(ms, error * ms, PREDICTED) for ms in map(predict, archs)]

    return DeviceLatency(table.device, table.conditions, budget_ms, predict, predict_all, how="predicted")


def _scaled(latency: Measurement, factor: float) -> Measurement:
    return replace(latency, median_ms=latency.median_ms * factor, spread_ms=latency.spread_ms * factor)


def _memoized(latency: LatencyCallable) -> LatencyCallable:
    latencies: dict[Architecture, float] = {}

    def memoized(arch: Architecture) -> float:
        if arch not in latencies:
            latencies[arch] = latency(arch)
        return latencies[arch]

    return memoized


def _checked(latency: LatencyCallable) -> LatencyCallable:
    def checked(arch: Architecture) -> float:
        value: object = latency(arch)
        ms = float(value) if isinstance(value, numbers.Real) else math.nan
        if not 0 < ms < math.inf:
            raise BadInput(f"the latency callable returned {value!r}; expected milliseconds above zero")
        return ms

    return checked
