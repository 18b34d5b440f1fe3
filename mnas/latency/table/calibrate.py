"""Calibrating a latency table on whole networks, and judging it again later."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mnas.errors import BadInput
from mnas.latency.measure import doubts, measure_networks
from mnas.latency.table.calibration import Calibration, correction
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.rounds import Measurement
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace

FITTED = 40
HELD_OUT = 20
ROUNDS = 120
SECONDS = 60.0
"""No more rounds than fit in, but twenty."""


@dataclass(frozen=True)
class Fidelity:
    """How well predictions agree with measurements of the same networks."""

    mean_error: float
    max_error: float
    bias: float
    spearman: float


def calibrate(
    table: LatencyTable, space: SearchSpace, num_classes: int, *, rng: random.Random,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """`table` with a correction fitted on 40 random networks of `space`, measured here, and judged on 20 others."""
    if table.at_resolution:
        raise BadInput("a table with milliseconds of one resolution alone cannot be calibrated: build a new one")
    archs = networks(space)
    table.layer_sums(archs, num_classes)  # what is missing is said before anything is measured
    found = measure_networks(
        archs, runtime=table.runtime, threads=table.threads, batch=table.batch, num_classes=num_classes, rounds=ROUNDS,
        seconds=SECONDS, rng=rng, progress=progress,
    )  # fmt: skip
    return calibrated(
        table, archs, found, num_classes=num_classes, space=space.name, resolutions=space.resolutions
    )


def networks(space: SearchSpace) -> list[Architecture]:
    """The random networks of a space that a calibration is made with, always the same: first those of the fit.

    Later the networks of the fit are timed again beside others, to see how fast the machine is then.
    """
    rng, space = random.Random("calibration"), space.with_resolutions(tuple(sorted(space.resolutions)))
    return [space.sample(rng) for _ in range(FITTED + HELD_OUT)]


def calibrated(
    table: LatencyTable, archs: Sequence[Architecture], measured: Sequence[Measurement], *, num_classes: int,
    space: str, resolutions: Iterable[int],
) -> LatencyTable:  # fmt: skip
    """`table` with a correction fitted on the first two thirds of the measured networks, and judged on the rest."""
    ms = np.array([one.median_ms for one in measured])
    part = len(ms) * FITTED // (FITTED + HELD_OUT)
    fit = correction(table.entries, [arch.layers(num_classes) for arch in archs[:part]], ms[:part])
    sums = replace(table, entries=fit.layers).layer_sums(archs[part:], num_classes)
    judged = fidelity(fit.offset_ms + fit.factor * sums, ms[part:])
    differences = [one.repeatability for one in measured if one.repeatability is not None]
    return replace(table, corrected=fit.layers, calibration=Calibration(
        offset_ms=fit.offset_ms, factor=fit.factor, networks=part, held_out=len(ms) - part,
        mean_error=judged.mean_error, max_error=judged.max_error, bias=judged.bias, spearman=judged.spearman,
        repeatability=float(np.mean(differences)) if differences else 0.0, space=space,
        resolutions=tuple(sorted(resolutions)),
        date=date.today().isoformat(), anchor_ms=mean_ms(measured[:part]),
        unstable=doubts(measured),
    ))  # fmt: skip


def mean_ms(measured: Sequence[Measurement]) -> float:
    """The geometric mean of some networks' milliseconds: half of it means a machine twice as fast."""
    return round(statistics.geometric_mean(one.median_ms for one in measured), 6)


def fidelity(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> Fidelity:
    """The figures by which a table is judged; (n,) milliseconds each."""
    error = predicted / measured - 1
    ranks = _ranks(predicted), _ranks(measured)
    spearman = np.corrcoef(*ranks)[0, 1] if np.ptp(ranks[0]) and np.ptp(ranks[1]) else 0.0
    return Fidelity(
        mean_error=round(float(np.abs(error).mean()), 5), max_error=round(float(np.abs(error).max()), 5),
        bias=round(float(error.mean()), 5), spearman=round(float(spearman), 5),
    )  # fmt: skip


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks
