"""Timing in rounds. Needs Python 3.8 alone: a kit copies this file to devices where mnas is not installed."""

from __future__ import annotations

import functools
import gc
import math
import random
import statistics
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, TypeVar  # noqa: UP035 - subscripted on import, which Python 3.8 allows for typing's alone

K = TypeVar("K", bound=Hashable)
Inference = Callable[[], object]
"""Runs a prepared network or layer once."""
Timer = Callable[[Inference, int], float]
"""Milliseconds of one inference, the mean of the given number in a row."""

MIN_ROUNDS = 10
MAX_WARM_UPS = 20
STABLE = 0.97
"""An inference is warm when three in a row did not beat its best time by 3%."""

NEIGHBOURS = 4
"""Samples on each side that show the machine's speed. A burst of a tenth of a second, in which a shared machine is 30%
slower, is shorter than a round: 30 samples of a network, taken twice, differed by 1.4% when corrected by the speed of
their round, by 1.1% when corrected by that of their neighbours."""
REFINEMENTS = 3
"""Passes that estimate usual times and drift in turn."""


@dataclass(frozen=True)
class RoundLimits:
    """When timing in rounds ends: after `rounds`, after `seconds`, or when all medians are precise enough.

    At least ten rounds are timed, unless `rounds` is less.
    """

    rounds: int = 30
    seconds: float | None = None
    precision: float | None = None
    """Half the width of each median's 95% interval as a part of the median: 0.01 is 1%."""


@dataclass(frozen=True)
class Measurement:
    """The latency of a network or a layer."""

    median_ms: float
    spread_ms: float
    """Half the width of a 95% confidence interval of the median, from order statistics."""
    rounds: int
    anchor_ms: float | None = None
    """Geometric mean of the anchor networks' medians in the same rounds."""
    repeatability: float | None = None
    """|first / second - 1| where it was measured twice; prepared again in between unless that is slow."""
    unstable: str = ""
    """Why the figure may be wrong; empty where no disturbance was seen."""
    speed_factor: float = 1.0
    """How many times slower than a table the machine was: `median_ms` and `spread_ms` are at the table's speed."""

    @property
    def measured_ms(self) -> float:
        """The median as measured, at the machine's speed at the time."""
        return self.median_ms * self.speed_factor


def wall_ms(inference: Inference, repeats: int) -> float:
    """Milliseconds of one inference on the wall clock, the mean of `repeats` in a row."""
    start = time.perf_counter_ns()
    for _ in range(repeats):
        inference()
    return (time.perf_counter_ns() - start) / repeats / 1e6


def sample(
    inferences: Mapping[K, Inference], limits: RoundLimits, *, rng: random.Random, timer: Timer = wall_ms,
    progress: Callable[[int, int], None] | None = None, settle: int = 1, sample_us: float = 200.0,
) -> list[tuple[K, float]]:
    """Times each inference once a round, in random order: (key, milliseconds) in the order timed.

    Before each sample, the same inference runs `settle` times untimed: without that, MobileNetV3-Small at 160 pixels
    took 1.8 times as long beside larger networks, which empty the processor's cache, as alone (onnxruntime).
    An inference shorter than `sample_us` is repeated within a sample.
    """
    start = time.perf_counter()
    samples: list[tuple[K, float]] = []
    order = list(inferences)
    with no_garbage_collection():
        repeats = {key: _warm_up(inference, timer, sample_us) for key, inference in inferences.items()}
        for count in range(1, limits.rounds + 1):
            rng.shuffle(order)
            for key in order:
                for _ in range(settle):
                    inferences[key]()
                samples.append((key, timer(inferences[key], repeats[key])))
            elapsed_s = time.perf_counter() - start
            if progress is not None:
                progress(count, _expected_rounds(count, elapsed_s, limits))
            if count >= MIN_ROUNDS and _is_enough(samples, count, elapsed_s, limits):
                break
    return samples


def _expected_rounds(count: int, elapsed_s: float, limits: RoundLimits) -> int:
    """The number of rounds in all, if the rest take as long as the first `count`."""
    in_time = limits.rounds if limits.seconds is None else math.ceil(count * limits.seconds / max(elapsed_s, 1e-9))
    return max(count, min(limits.rounds, max(MIN_ROUNDS, in_time)))


def _is_enough(samples: Sequence[tuple[K, float]], count: int, elapsed_s: float, limits: RoundLimits) -> bool:
    """Whether time is up, or every median's interval is narrow enough; the latter is checked every five rounds."""
    if limits.seconds is not None and elapsed_s > limits.seconds:
        return True
    if limits.precision is None or count % 5:
        return False
    summaries = map(summary, without_drift(samples).values())
    return all(timed.spread_ms <= limits.precision * timed.median_ms for timed in summaries)


def by_key(samples: Sequence[tuple[K, float]]) -> dict[K, list[float]]:
    """The milliseconds of each key, in the order timed."""
    times: dict[K, list[float]] = {}
    for key, ms in samples:
        times.setdefault(key, []).append(ms)
    return times


def without_drift(samples: Sequence[tuple[K, float]]) -> dict[K, list[float]]:
    """`by_key`, without the drift that all keys have in common: clocks and neighbouring processes change.

    The machine's slowness at a sample is the median of (time / usual time) over neighbouring samples of other keys.
    Other keys only: with its own sample included its noise would be hidden, and only 74% of 95% intervals held the true
    median (nine keys). With fewer than three keys, samples are left as they are.
    """
    times = by_key(samples)
    if len(times) < 3:
        return times
    for _ in range(REFINEMENTS):
        usual = {key: trimmed_mean(ms) for key, ms in times.items()}
        slowness = _slowness(samples, usual)
        middle = statistics.median(slowness)
        times = by_key([(key, ms * middle / slow) for (key, ms), slow in zip(samples, slowness)])  # noqa: B905
    return times


def trimmed_mean(times: Sequence[float]) -> float:
    """The mean without the fastest and the slowest fifth, so that a single outlier moves it little.

    Medians jump between two clock speeds when the clock changes halfway. Over 21 samples of a layer, repeated medians
    differed by 3.2%, repeated trimmed means by 2.9%.
    """
    cut = len(times) // 5
    return statistics.fmean(sorted(times)[cut : len(times) - cut])


def _slowness(samples: Sequence[tuple[K, float]], usual: Mapping[K, float]) -> list[float]:
    """For each sample, the median of (time / usual time) over neighbouring samples of other keys."""
    relative = [ms / usual[key] for key, ms in samples]
    slowness = []
    for i, (key, _) in enumerate(samples):
        near = range(max(0, i - NEIGHBOURS), min(len(samples), i + NEIGHBOURS + 1))
        slowness.append(statistics.median([relative[j] for j in near if samples[j][0] != key] or [1.0]))
    return slowness


def summary(samples: Sequence[float]) -> Measurement:
    """The median of times in milliseconds, with its 95% interval."""
    ordered = sorted(samples)
    low = _rank_below_median(len(ordered))
    return Measurement(statistics.median(ordered), (ordered[-1 - low] - ordered[low]) / 2, len(ordered))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Turn Python's garbage collector off inside the block."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _warm_up(inference: Inference, timer: Timer, sample_us: float) -> int:
    """Run until it gets no faster; the number of repeats that fill a sample of `sample_us`."""
    best, since = timer(inference, 1), 0
    for _ in range(MAX_WARM_UPS):
        ms = timer(inference, 1)
        since = 0 if ms < STABLE * best else since + 1
        best = min(best, ms)
        if since == 3:
            break
    return max(1, math.ceil(sample_us / 1000 / max(best, 1e-4)))


@functools.lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8
def _rank_below_median(count: int) -> int:
    """The highest rank, from 0, that exceeds the median with a probability of at most 2.5% (0 below 6 samples)."""
    above, rank = 1 / 2**count, 0
    while (above := above + math.comb(count, rank + 1) / 2**count) <= 0.025:
        rank += 1
    return rank
