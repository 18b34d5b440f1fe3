"""Calibrating a latency table on whole networks, and measuring its error."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mnas.errors import BadInput
from mnas.io.size import Size, in_order
from mnas.latency.measure import instabilities, measure_networks
from mnas.latency.table.anchors import anchors_of
from mnas.latency.table.calibration import Calibration, CalibrationNetworks, TableError
from mnas.latency.table.correction import correction
from mnas.latency.table.provenance import today
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.rounds import Measurement, RoundLimits
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs, under
from mnas.space.space import SearchSpace

FITTED = 40
HELD_OUT = 20
ROUNDS = 120
SECONDS = 60.0


def round_limits() -> RoundLimits:
    """How long whole networks are timed to calibrate or to check a table; twenty rounds at least."""
    return RoundLimits(ROUNDS, SECONDS)


@dataclass(frozen=True)
class MeasuredNetworks:
    """Whole networks of a space and their measured latencies, in the same order."""

    archs: Sequence[Architecture]
    measurements: Sequence[Measurement]
    num_classes: Outputs
    space: str
    resolutions: tuple[Size, ...]

    def ms(self) -> NDArray[np.float64]:
        """(n,) milliseconds."""
        return np.array([measurement.median_ms for measurement in self.measurements])


def calibrate(
    table: LatencyTable, space: SearchSpace, num_classes: Outputs, *, rng: random.Random,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """`table` with a correction fitted on 40 random networks of `space`, measured here; its error is that on 20 others.
    """
    if table.at_resolution:
        raise BadInput("a table with milliseconds of one resolution alone cannot be calibrated: build a new one")
    archs = calibration_networks(space)
    table.layer_sums(archs, num_classes)  # missing layers are reported before anything is measured
    measurements = measure_networks(
        archs, table.conditions, round_limits(), num_classes=num_classes, rng=rng, progress=progress
    )
    networks = MeasuredNetworks(archs, measurements, num_classes, under(space.name, num_classes), space.resolutions)
    return _with_anchors(calibrated(table, networks), networks)


def _with_anchors(table: LatencyTable, networks: MeasuredNetworks) -> LatencyTable:
    """A calibrated table that keeps some of the networks it was fitted on, to compare the machine's speed later."""
    calibration = table.calibration
    if calibration is None:
        return table
    fitted = calibration.networks.fitted
    anchors = anchors_of(networks.archs[:fitted], networks.measurements[:fitted], networks.num_classes)
    return replace(table, calibration=replace(calibration, anchors=tuple(anchors)))


def calibration_networks(space: SearchSpace) -> list[Architecture]:
    """The random networks that a space's calibration is made with, always the same; those of the fit come first.

    A later check times the networks of the fit again, to compare the machine's speed.
    """
    rng, space = random.Random("calibration"), space.with_resolutions(in_order(space.resolutions))
    return [space.sample(rng) for _ in range(FITTED + HELD_OUT)]


def calibrated(table: LatencyTable, networks: MeasuredNetworks) -> LatencyTable:
    """`table` with a correction fitted on the first two thirds of the networks; its error is that on the others."""
    ms, archs, num_classes = networks.ms(), networks.archs, networks.num_classes
    fitted = len(ms) * FITTED // (FITTED + HELD_OUT)
    fit = correction(table.entries, [arch.layers(num_classes) for arch in archs[:fitted]], ms[:fitted])
    sums = replace(table, entries=fit.layers).layer_sums(archs[fitted:], num_classes)
    repeated = [m.repeatability for m in networks.measurements if m.repeatability is not None]
    calibration = Calibration(
        fit.offset_ms, fit.factor, table_error(fit.offset_ms + fit.factor * sums, ms[fitted:]),
        CalibrationNetworks(
            fitted, len(ms) - fitted, networks.space, tuple(in_order(networks.resolutions)), today(),
            anchor_ms=mean_ms(networks.measurements[:fitted]),
            repeatability=float(np.mean(repeated)) if repeated else 0.0,
            unstable=instabilities(networks.measurements),
        ),
    )  # fmt: skip
    return replace(table, corrected=fit.layers, calibration=calibration)


def mean_ms(measurements: Sequence[Measurement]) -> float:
    """The geometric mean of the networks' milliseconds: half of it means a machine twice as fast."""
    return round(statistics.geometric_mean(measurement.median_ms for measurement in measurements), 6)


def table_error(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> TableError:
    """The error of (n,) predicted against (n,) measured milliseconds; Spearman is 0 where one of them is constant."""
    from scipy.stats import spearmanr  # takes a second

    error = predicted / measured - 1
    varies = np.ptp(predicted) > 0 and np.ptp(measured) > 0
    spearman = float(spearmanr(predicted, measured).statistic) if varies else 0.0
    return TableError(
        mean_error=round(float(np.abs(error).mean()), 5), max_error=round(float(np.abs(error).max()), 5),
        bias=round(float(error.mean()), 5), spearman=round(spearman, 5),
    )  # fmt: skip
