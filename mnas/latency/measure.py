"""Latency measured in rounds: everything that is compared is timed in turn, in random order, over and over."""

from __future__ import annotations

import functools
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from mnas.architecture import Architecture
from mnas.errors import BadInput

K = TypeVar("K", bound=Hashable)
Run = Callable[[], object]

MIN_ROUNDS = 5
NETWORKS_AT_ONCE = 40


@dataclass(frozen=True)
class Measurement:
    """The latency of one thing."""

    median_ms: float
    spread_ms: float
    """Half the width of a 95% confidence interval of the median, from order statistics."""
    rounds: int


def measure(
    runs: Mapping[K, Run], *, rounds: int = 30, warmup: int = 3, rng: random.Random, seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None, settle: int = 1, sample_us: float = 200.0,
) -> dict[K, Measurement]:
    """Times each of `runs` once a round, in a new random order each round, with garbage collection off.

    Each sample follows `settle` untimed runs of the same: without, MobileNetV3-Small at 160 pixels took 1.8 times as
    long beside larger networks, which empty the processor's cache, as alone (onnxruntime).
    A run shorter than `sample_us` is repeated within a sample. After `seconds` (and 5 rounds) no new round begins.
    """
    samples = sample(
        runs, rounds=rounds, warmup=warmup, rng=rng, seconds=seconds, progress=progress, settle=settle,
        sample_us=sample_us,
    )  # fmt: skip
    return {key: summary(values) for key, values in samples.items()}


def sample(
    runs: Mapping[K, Run], *, rounds: int, warmup: int, rng: random.Random, seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None, settle: int, sample_us: float,
) -> dict[K, list[float]]:
    """The single times in milliseconds that `measure` sums up."""
    if rounds < 1 or warmup < 0:
        raise BadInput(f"rounds {rounds}, warmup {warmup}: expected at least 1 round and no negative warm-up")
    start = time.perf_counter()
    samples: dict[K, list[float]] = {key: [] for key in runs}
    order = list(runs)
    with _no_garbage_collection():
        repeats = {key: _repeats(run, warmup, sample_us) for key, run in runs.items()}
        for done in range(1, rounds + 1):
            rng.shuffle(order)
            for key in order:
                for _ in range(settle):
                    runs[key]()
                samples[key].append(_timed_ms(runs[key], repeats[key]))
            if progress is not None:
                progress(done, rounds)
            if seconds is not None and done >= MIN_ROUNDS and time.perf_counter() - start > seconds:
                break
    return samples


def summary(samples: Sequence[float]) -> Measurement:
    """Median and its interval of times in milliseconds."""
    ordered = sorted(samples)
    low = _rank_below_median(len(ordered))
    return Measurement(statistics.median(ordered), (ordered[-1 - low] - ordered[low]) / 2, len(ordered))


def measure_networks(
    archs: Sequence[Architecture], *, runtime: str = "torch", threads: int = 1, batch: int = 1,
    num_classes: int = 1000, rounds: int = 30, rng: random.Random,
) -> list[Measurement]:
    """Each whole network, with random weights, in the same rounds as the others (40 networks at a time)."""
    import torch

    from mnas.latency.runtimes import get_runtime
    from mnas.nn.network import build

    adapter = get_runtime(runtime)
    parts = -(-len(archs) // NETWORKS_AT_ONCE)
    results: dict[int, Measurement] = {}
    with adapter.threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        for part in range(parts):
            runs = {}
            for i in range(part, len(archs), parts):
                images = torch.rand(batch, 3, archs[i].resolution, archs[i].resolution)
                runs[i] = adapter.prepare(build(archs[i], num_classes).eval(), images, threads)
            results |= measure(runs, rounds=rounds, rng=rng)
    return [results[i] for i in range(len(archs))]


def _repeats(run: Run, warmup: int, sample_us: float) -> int:
    """Warms `run` up; how often it must run for one sample of `sample_us`."""
    shortest_ms = min(_timed_ms(run, 1) for _ in range(max(1, warmup)))
    return max(1, math.ceil(sample_us / 1000 / max(shortest_ms, 1e-4)))


def _timed_ms(run: Run, repeats: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(repeats):
        run()
    return (time.perf_counter_ns() - start) / repeats / 1e6


@functools.cache
def _rank_below_median(count: int) -> int:
    """The highest rank, from 0, that is above the median with a probability of at most 2.5% (0 below 6 samples)."""
    above, rank = 1 / 2**count, 0
    while (above := above + math.comb(count, rank + 1) / 2**count) <= 0.025:
        rank += 1
    return rank


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
