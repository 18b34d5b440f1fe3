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

NEIGHBOURS = 4
"""On each side. Bursts of a tenth of a second, in which a shared machine is 30% slower, are shorter than a round: 30
samples of a network, taken twice, differed by 1.4% with a round's speed taken out, by 1.1% with that of neighbours."""
REFINED = 3
"""Passes: with drift taken out usual times are told better, and by them the drift."""


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
    """|first / second - 1| where it was measured twice, prepared anew in between if that is quick."""
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
) -> list[tuple[K, float]]:
    """Each of `runs` with its milliseconds, once a round, in the order taken: a new random one each round.

    Each sample follows `settle` untimed runs of the same: without, MobileNetV3-Small at 160 pixels took 1.8 times as
    long beside larger networks, which empty the processor's cache, as alone (onnxruntime).
    A run shorter than `sample_us` is repeated within a sample. No new round begins after `seconds`, or when every
    median's interval is narrower than `precision` (0.01 is 1%), but ten rounds are always done.
    """
    start = time.perf_counter()
    samples: list[tuple[K, float]] = []
    order = list(runs)
    with no_garbage_collection():
        repeats = {key: _warm_up(run, timer, sample_us) for key, run in runs.items()}
        for done in range(1, rounds + 1):
            rng.shuffle(order)
            for key in order:
                for _ in range(settle):
                    runs[key]()
                samples.append((key, timer(runs[key], repeats[key])))
            took = time.perf_counter() - start
            if progress is not None:
                in_time = rounds if seconds is None else math.ceil(done * seconds / max(took, 1e-9))
                progress(done, max(done, min(rounds, max(MIN_ROUNDS, in_time))))
            if done < MIN_ROUNDS:
                continue
            if seconds is not None and took > seconds:
                break
            if precision is not None and done % 5 == 0 and _narrow(without_drift(samples), precision):
                break
    return samples


def by_key(samples: Sequence[tuple[K, float]]) -> dict[K, list[float]]:
    """The milliseconds of each thing, in the order taken."""
    times: dict[K, list[float]] = {}
    for key, ms in samples:
        times.setdefault(key, []).append(ms)
    return times


def without_drift(samples: Sequence[tuple[K, float]]) -> dict[K, list[float]]:
    """`by_key`, with what all have in common taken out: a machine's clock and neighbours change.

    How slow the machine is at a sample is the median, over those of other things next to it in time, of their time
    relative to their usual one: with the thing itself among them its own noise would vanish, and of 95% intervals 74%
    held the truth (nine things). Of fewer than three things nothing common can be told.
    """
    times = by_key(samples)
    if len(times) < 3:
        return times
    for _ in range(REFINED):
        usual = {key: trimmed_mean(found) for key, found in times.items()}
        slowness = _slowness(samples, usual)
        middle = statistics.median(slowness)
        times = by_key([(key, ms * middle / slow) for (key, ms), slow in zip(samples, slowness)])  # noqa: B905
    return times


def trimmed_mean(times: Sequence[float]) -> float:
    """The mean without the fastest and the slowest fifth: a single hiccup moves it little.

    Medians have no common scale: where the clock changes in the middle, it is chance on which side each lies. Of 21
    samples of a layer, medians differed by 3.2%, these means by 2.9%.
    """
    cut = len(times) // 5
    return statistics.fmean(sorted(times)[cut : len(times) - cut])


def _slowness(samples: Sequence[tuple[K, float]], usual: Mapping[K, float]) -> list[float]:
    """Of each sample, the median over its neighbours of other things of the time relative to the usual one."""
    relative = [ms / usual[key] for key, ms in samples]
    found = []
    for i, (key, _) in enumerate(samples):
        near = range(max(0, i - NEIGHBOURS), min(len(samples), i + NEIGHBOURS + 1))
        found.append(statistics.median([relative[j] for j in near if samples[j][0] != key] or [1.0]))
    return found


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
