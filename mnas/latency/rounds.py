"""Timing in rounds. Needs Python alone: a kit takes this file to devices where mnas is not installed."""

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
from typing import Callable, TypeVar  # noqa: UP035 - subscripted on loading, which Python 3.8 refuses of the other one

K = TypeVar("K", bound=Hashable)
Run = Callable[[], object]
Timer = Callable[[Run, int], float]
"""Milliseconds of one run, the mean of so many in a row."""

MIN_ROUNDS = 10
MOST_WARM_UPS = 20
STABLE = 0.97
"""A run is warm when three in a row did not beat its best time by 3%."""

PREPARED = 2
"""Times that each network is prepared anew: where its weights happen to lie in memory changes its latency by 1%."""


@dataclass(frozen=True)
class Measurement:
    """The latency of one thing."""

    median_ms: float
    spread_ms: float
    """Half the width of a 95% confidence interval of the median, from order statistics."""
    rounds: int
    anchor_ms: float | None = None
    """What the anchor network took in the same rounds."""
    repeatability: float | None = None
    """|first / second - 1| where it was prepared and measured twice."""
    unstable: str = ""
    """Why the figure may be wrong; empty where nothing speaks against it."""


def wall_ms(run: Run, repeats: int) -> float:
    """Milliseconds of one run on the wall clock, the mean of `repeats` in a row."""
    start = time.perf_counter_ns()
    for _ in range(repeats):
        run()
    return (time.perf_counter_ns() - start) / repeats / 1e6


def sample(
    runs: Mapping[K, Run], *, rounds: int, rng: random.Random, timer: Timer = wall_ms, settle: int = 1,
    sample_us: float = 200.0, seconds: float | None = None, precision: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[K, list[float]]:
    """Times in milliseconds of each of `runs`, once a round, in a new random order each round.

    Each sample follows `settle` untimed runs of the same: without, MobileNetV3-Small at 160 pixels took 1.8 times as
    long beside larger networks, which empty the processor's cache, as alone (onnxruntime).
    A run shorter than `sample_us` is repeated within a sample. No new round begins after `seconds`, or when every
    median's interval is narrower than `precision` (0.01 is 1%), but ten rounds are always done.
    """
    start = time.perf_counter()
    samples: dict[K, list[float]] = {key: [] for key in runs}
    order = list(runs)
    with no_garbage_collection():
        repeats = {key: _warm_up(run, timer, sample_us) for key, run in runs.items()}
        for done in range(1, rounds + 1):
            rng.shuffle(order)
            for key in order:
                for _ in range(settle):
                    runs[key]()
                samples[key].append(timer(runs[key], repeats[key]))
            if progress is not None:
                progress(done, rounds)
            if done < MIN_ROUNDS:
                continue
            if seconds is not None and time.perf_counter() - start > seconds:
                break
            if precision is not None and done % 5 == 0 and _narrow(without_drift(samples), precision):
                break
    return samples


def without_drift(samples: Mapping[K, Sequence[float]]) -> dict[K, list[float]]:
    """The samples with what all of a round have in common taken out: a machine's clock and neighbours change.

    A round's factor is the median, over everything else timed in it, of the time relative to its usual one: with the
    thing itself among them its own noise would vanish, and of 95% intervals 74% held the truth (nine things). Of fewer
    than three things nothing common can be told.
    """
    if len(samples) < 3:
        return {key: list(times) for key, times in samples.items()}
    # medians alone have no common scale: where the clock changes in the middle, it is chance on which side each lies
    factors = _common(samples, {key: statistics.median(times) for key, times in samples.items()})
    middle = statistics.median(factors)
    usual = {
        key: statistics.median(ms * middle / factor for ms, factor in zip(times, factors))  # noqa: B905
        for key, times in samples.items()
    }
    steady = {}
    for key, times in samples.items():
        factors = _common({other: found for other, found in samples.items() if other != key}, usual)
        steady[key] = [ms / factor for ms, factor in zip(times, factors)]  # noqa: B905
    return steady


def _common(samples: Mapping[K, Sequence[float]], usual: Mapping[K, float]) -> list[float]:
    """Of each round, the median over things of the time relative to the usual one."""
    relative = [[ms / usual[key] for ms in times] for key, times in samples.items()]
    return [statistics.median(found) for found in zip(*relative)]  # noqa: B905


def summary(samples: Sequence[float]) -> Measurement:
    """Median and its interval of times in milliseconds."""
    ordered = sorted(samples)
    low = _rank_below_median(len(ordered))
    return Measurement(statistics.median(ordered), (ordered[-1 - low] - ordered[low]) / 2, len(ordered))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Python's garbage collector waits while inside."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _warm_up(run: Run, timer: Timer, sample_us: float) -> int:
    """Runs until it gets no faster; how often it must run for one sample of `sample_us`."""
    best, since = timer(run, 1), 0
    for _ in range(MOST_WARM_UPS):
        ms = timer(run, 1)
        since = 0 if ms < STABLE * best else since + 1
        best = min(best, ms)
        if since == 3:
            break
    return max(1, math.ceil(sample_us / 1000 / max(best, 1e-4)))


def _narrow(samples: Mapping[K, Sequence[float]], precision: float) -> bool:
    found = map(summary, samples.values())
    return all(one.spread_ms <= precision * one.median_ms for one in found)


@functools.lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8
def _rank_below_median(count: int) -> int:
    """The highest rank, from 0, that is above the median with a probability of at most 2.5% (0 below 6 samples)."""
    above, rank = 1 / 2**count, 0
    while (above := above + math.comb(count, rank + 1) / 2**count) <= 0.025:
        rank += 1
    return rank
