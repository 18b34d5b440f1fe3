"""Latency of whole networks on this machine, beside an anchor network that shows how fast the machine is just then."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mnas import zoo
from mnas.architecture import Architecture
from mnas.errors import BadInput
from mnas.latency.quiet import Watch, pinned
from mnas.latency.rounds import PREPARED, Measurement, Run, Timer, by_key, sample, summary, wall_ms, without_drift
from mnas.latency.runtimes import Runtime, get_runtime

if TYPE_CHECKING:
    from torch import Tensor

K = TypeVar("K", bound=Hashable)

ANCHORS = tuple(
    zoo.get(name, width, resolution) for name, width, resolution in (
        ("mobilenet_v3_large", 1.0, 224), ("mobilenet_v3_large", 1.0, 192), ("mobilenet_v3_large", 0.75, 160),
        ("mobilenet_v3_small", 1.0, 224), ("mnasnet_a1", 1.0, 192), ("mnasnet_a1", 0.75, 160),
        ("mobilenet_v2", 0.75, 192), ("mobilenet_v1", 0.5, 160),
    )
)  # fmt: skip
"""Timed beside everything else. Several, since a busy neighbour slows large networks more than small ones."""
PRECISION = 0.01
WIDE = 0.05
"""An interval wider than this part of the median is called unstable."""
NETWORKS_AT_ONCE = 60


def measure(
    runs: Mapping[K, Run], *, anchors: Sequence[Run] = (), threads: int = 1, rounds: int = 30, rng: random.Random,
    timer: Timer = wall_ms, seconds: float | None = None, precision: float | None = None,
    progress: Callable[[int, int], None] | None = None, settle: int = 1, sample_us: float = 200.0,
) -> dict[K, Measurement]:
    """Times each of `runs` once a round (see `rounds.sample`), on pinned cores, and says what disturbed.

    Drift that all have in common, the anchors among them, is taken out.
    """
    if rounds < 1:
        raise BadInput(f"rounds {rounds}: expected at least 1")
    names: dict[Hashable, Run] = {key: run for key, run in runs.items()}  # noqa: C416
    names |= {("anchor", i): run for i, run in enumerate(anchors)}
    watch = Watch()
    with pinned(threads):
        samples = sample(
            names, rounds=rounds, rng=rng, timer=timer, settle=settle, sample_us=sample_us, seconds=seconds,
            precision=precision, progress=progress,
        )  # fmt: skip
    steady = without_drift(samples)
    medians = {key: statistics.median(times) for key, times in steady.items()}
    anchor_ms = statistics.geometric_mean([medians["anchor", i] for i in range(len(anchors))]) if anchors else None
    times = by_key(samples)
    first = times["anchor", 0] if anchors else next(iter(times.values()), [])
    disturbed = watch.disturbed(first)
    return {key: _judged(replace(summary(steady[key]), anchor_ms=anchor_ms), disturbed) for key in runs}


@contextmanager
def on_cores(adapter: Runtime, threads: int) -> Iterator[None]:
    """Inside, the runtime has `threads` threads on as many cores, and so has PyTorch, which makes what is timed.

    With 16 threads on one core, PyTorch took two seconds to copy a network.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with adapter.threads(threads), pinned(threads):
            yield
    finally:
        torch.set_num_threads(before)


def _judged(one: Measurement, disturbed: str) -> Measurement:
    share = one.spread_ms / one.median_ms if one.rounds > 1 else 0.0
    wide = f"its times vary: +-{100 * share:.0f}% after {one.rounds} rounds" if share > WIDE else ""
    return replace(one, unstable="; ".join(filter(None, [disturbed, wide])))


def measure_networks(
    archs: Sequence[Architecture], *, runtime: str = "torch", threads: int = 1, batch: int = 1,
    num_classes: int = 1000, rounds: int = 30, seconds: float | None = None, rng: random.Random,
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Each whole network, with random weights, in the same rounds as the others (60 networks at a time).

    No new round begins when `seconds`, without those of preparing, are over; but ten are done each time that a network
    is prepared.

    Where there are more, the anchor brings all to the machine's speed of the first 60. Each is prepared twice, but up
    to 60 once where preparing takes longer than timing.
    """
    import torch

    from mnas.nn.network import build

    adapter = get_runtime(runtime)
    parts = -(-len(archs) // NETWORKS_AT_ONCE)
    results: dict[int, list[Measurement]] = {i: [] for i in range(len(archs))}
    total, first_ms, runs = parts * PREPARED, None, dict[int, Run]()
    with on_cores(adapter, threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        anchors = anchor_runs(adapter, threads)
        order = rng.sample(range(len(archs)), len(archs))
        for step in range(total):
            # in the other order the second time: what is prepared later lies elsewhere, and ran 2% faster (onnxruntime)
            part = order[step % parts :: parts][:: 1 if step < parts else -1]
            began = time.perf_counter()
            if runs.keys() != set(part):
                runs = {}  # before others are prepared: they need the memory
                for i in part:
                    images = torch.rand(batch, 3, archs[i].resolution, archs[i].resolution)
                    runs[i] = adapter.prepare(build(archs[i], num_classes).eval(), images, threads)
            ready = time.perf_counter()
            found = measure(
                runs, anchors=anchors, threads=threads, rounds=-(-rounds // PREPARED), rng=rng,
                timer=adapter.timed_ms, seconds=None if seconds is None else seconds / total,
                progress=None if progress is None else _within(progress, step, total),
            )
            for i, one in found.items():
                first_ms = first_ms or one.anchor_ms
                results[i].append(at_speed(one, first_ms))
            if ready - began < time.perf_counter() - ready:
                runs = {}
    return [together(results[i]) for i in range(len(archs))]


def _within(progress: Callable[[int, int], None], step: int, steps: int) -> Callable[[int, int], None]:
    return lambda done, total: progress(step * total + done, steps * total)


def together(parts: Sequence[Measurement]) -> Measurement:
    """One figure from several measurements of one network; their difference counts as uncertainty."""
    medians = [one.median_ms for one in parts]
    spread = max([(max(medians) - min(medians)) / 2, *(one.spread_ms / len(parts) ** 0.5 for one in parts)])
    repeatability = abs(medians[0] / medians[1] - 1) if len(medians) == 2 else None
    reasons = dict.fromkeys(one.unstable for one in parts if one.unstable)
    return replace(
        parts[0], median_ms=statistics.fmean(medians), spread_ms=spread, rounds=sum(one.rounds for one in parts),
        repeatability=repeatability, unstable="; ".join(reasons),
    )  # fmt: skip


def at_speed(one: Measurement, anchor_ms: float | None) -> Measurement:
    """The measurement as it would be where the anchor takes `anchor_ms`."""
    if anchor_ms is None or one.anchor_ms is None:
        return one
    factor = anchor_ms / one.anchor_ms
    return replace(one, median_ms=one.median_ms * factor, spread_ms=one.spread_ms * factor, anchor_ms=anchor_ms)


def anchor_runs(adapter: Runtime, threads: int) -> list[Run]:
    """The anchor networks under this runtime, with random weights, at batch 1."""
    import torch

    from mnas.nn.network import build

    runs = []
    for arch in ANCHORS:
        images: Tensor = torch.rand(1, 3, arch.resolution, arch.resolution)
        runs.append(adapter.prepare(build(arch, 1000).eval(), images, threads))
    return runs
