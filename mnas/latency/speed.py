"""The machine's speed at the time: whole networks measured here, as they are at the speed of the table.

Beside two busy processes networks took 1.5 to 2.2 times as long as when their table was made. At the table's speed
their mean was 1 to 4% off, and a single network up to 10% (eager torch, two cores), with intervals of +-7 to 30%: then
the table knows better, or what an idle machine measured before, and both are taken together
(benchmarks/busy_machine.py).
"""

from __future__ import annotations

import logging
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from mnas.latency.conditions import Conditions
from mnas.latency.machine import await_rest
from mnas.latency.measure import NETWORKS_AT_ONCE, measure_networks
from mnas.latency.remembered import Remembered
from mnas.latency.runtimes import Runtime
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.rounds import Inference, Measurement, RoundLimits
from mnas.nn.dense import network_for
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs

log = logging.getLogger("mnas")


@dataclass(frozen=True)
class Speed:
    """How the machine's speed now compares with that of a table."""

    factor: float
    """How many times longer networks take now: 1.15 is 15% slower than the table."""
    spread: float
    """Half the width of the factor's 95% interval, as a part of it."""


def speed_of(anchors: Sequence[Anchor], measurements: Sequence[Measurement]) -> Speed:
    """The speed now, by the table's anchors (at least one) measured now, in the same order.

    The factor is the geometric mean of now over then. Its interval follows from how the anchors differ (Student's t);
    it is no narrower than that of the mean of their measurements.
    """
    from scipy.stats import t as student  # takes a second

    ratios = [math.log(now.median_ms / then.ms) for then, now in zip(anchors, measurements, strict=True)]
    count = len(ratios)
    own = math.hypot(*(now.spread_ms / now.median_ms for now in measurements)) / count
    deviation = statistics.stdev(ratios) if count > 1 else 0.0
    quantile = float(student.ppf(0.975, count - 1)) if count > 1 else 0.0
    return Speed(math.exp(statistics.fmean(ratios)), max(own, quantile * deviation / math.sqrt(count)))


def at_table_speed(measurement: Measurement, speed: Speed) -> Measurement:
    """The measurement at the table's speed; its spread includes the uncertainty of the factor."""
    ms = measurement.median_ms / speed.factor
    spread_ms = math.hypot(measurement.spread_ms / speed.factor, ms * speed.spread)
    return replace(
        measurement, median_ms=ms, spread_ms=spread_ms, speed_factor=measurement.speed_factor * speed.factor
    )


def prepared(anchor: Anchor, adapter: Runtime, conditions: Conditions) -> Inference:
    """An anchor with random weights, as it was when the table was calibrated."""
    network = network_for(anchor.architecture, anchor.num_classes)
    return adapter.prepare(network, torch.rand(anchor.architecture.input_shape(conditions.batch)), conditions.threads)


@dataclass(frozen=True)
class Expectation:
    """What a table of this machine says about whole networks."""

    predict: Callable[[Architecture], float | None]
    """Milliseconds of a network; None where the table lacks some of its layers."""
    error: float
    """The mean relative error of `predict` on networks not used for the table's fit."""


HALF_WIDTH = 2.5
"""Half the width of a prediction's 95% interval, in mean errors."""
VAGUE = 2.0
"""A measurement whose interval is so many times as wide as that of what is known already was taken on a busy machine:
it is joined with that."""
LEAST_ERROR = 0.01


def joined(measurement: Measurement, expected_ms: float, half_width_ms: float) -> Measurement:
    """A vague measurement and a prediction together, each weighted by the inverse of its variance.

    Any other measurement is given back. `measured_ms` stays what was measured.
    """
    if measurement.spread_ms <= VAGUE * half_width_ms:
        return measurement
    weights = half_width_ms**-2, measurement.spread_ms**-2
    ms = (weights[0] * expected_ms + weights[1] * measurement.median_ms) / sum(weights)
    return replace(
        measurement, median_ms=ms, spread_ms=sum(weights) ** -0.5, speed_factor=measurement.measured_ms / ms
    )


@dataclass(frozen=True)
class MeasuredHere:
    """Measures whole networks on this machine: at the speed of a table if it has anchors, else as they are now."""

    conditions: Conditions
    limits: RoundLimits
    num_classes: Outputs
    rng: random.Random
    anchors: tuple[Anchor, ...] = ()
    expected: Expectation | None = None
    """Of the table that has the anchors: joined with measurements that are vague."""
    remembered: Remembered | None = None
    """What was measured at rest, at the speed of that table: takes the place of its predictions."""

    def __call__(self, archs: Sequence[Architecture]) -> list[Measurement]:
        """The measurements of `archs`, in order; each was taken in the same rounds as those of all anchors."""
        await_rest(self.conditions.threads)
        if not self.anchors:
            return measure_networks(archs, self.conditions, self.limits, num_classes=self.num_classes, rng=self.rng)
        at_once = max(1, NETWORKS_AT_ONCE - len(self.anchors))
        found: list[Measurement] = []
        for start in range(0, len(archs), at_once):
            found += self._beside_anchors(archs[start : start + at_once])
        return found

    def _beside_anchors(self, archs: Sequence[Architecture]) -> list[Measurement]:
        # the table's anchors take the place of the usual ones
        measurements = measure_networks(
            [*archs, *(anchor.architecture for anchor in self.anchors)], self.conditions, self.limits, anchors=(),
            num_classes=[self.num_classes] * len(archs) + [anchor.num_classes for anchor in self.anchors], rng=self.rng,
        )  # fmt: skip
        speed = speed_of(self.anchors, measurements[len(archs) :])
        found = [at_table_speed(measurement, speed) for measurement in measurements[: len(archs)]]
        return self._joined(archs, found)

    def _known(self, arch: Architecture, remembered: tuple[float, float] | None) -> tuple[float, float] | None:
        """Milliseconds of a network, as remembered or predicted, and half the width of their interval."""
        if remembered is not None:
            return remembered[0], max(remembered[1], HALF_WIDTH * LEAST_ERROR * remembered[0])
        ms = None if self.expected is None else self.expected.predict(arch)
        if self.expected is None or ms is None:
            return None
        return ms, HALF_WIDTH * max(LEAST_ERROR, self.expected.error) * ms

    def _joined(self, archs: Sequence[Architecture], found: Sequence[Measurement]) -> list[Measurement]:
        """The measurements, the vague ones with what is known; the others are remembered."""
        results = []
        earlier = [None] * len(archs) if self.remembered is None else self.remembered.of(archs, self.num_classes)
        for arch, measurement, before in zip(archs, found, earlier, strict=True):
            known = self._known(arch, before)
            results.append(measurement if known is None else joined(measurement, *known))
            if results[-1] is measurement and self.remembered is not None:
                self.remembered.keep(arch, self.num_classes, measurement)
        vague = [before for before, after in zip(found, results, strict=True) if before is not after]
        if vague:
            log.info(
                "%d of %d networks were measured vaguely (+-%.0f%%; the machine is busy?): they count together with "
                "what the latency table, or an earlier search, says of them", len(vague), len(found),
                100 * statistics.median(one.spread_ms / one.median_ms for one in vague),
            )  # fmt: skip
        return results
