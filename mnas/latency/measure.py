"""Latency of whole networks on this machine, beside an anchor network that shows how fast the machine is just then."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mnas.errors import BadInput
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.timing.quiet import Watch, pinned
from mnas.latency.timing.rounds import Measurement, Run, Timer, by_key, sample, summary, wall_ms, without_drift
from mnas.space import zoo
from mnas.space.architecture import Architecture

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
NETWORKS_AT_ONCE = 80


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
    watch = Watch()
    with pinned(threads):
        samples = sample(
            _with_anchors(runs, anchors), rounds=rounds, rng=rng, timer=timer, settle=settle, sample_us=sample_us,
            seconds=seconds, precision=precision, progress=progress,
        )  # fmt: skip
    steady = without_drift(samples)
    anchor_ms = _anchor_ms(steady, anchors)
    disturbed = watch.disturbed(_first(samples, anchors))
    return {key: _judged(replace(summary(steady[key]), anchor_ms=anchor_ms), disturbed) for key in runs}


def _with_anchors(runs: Mapping[K, Run], anchors: Sequence[Run]) -> dict[Hashable, Run]:
    named: dict[Hashable, Run] = {("anchor", i): run for i, run in enumerate(anchors)}
    named.update(runs.items())
    return named


def _anchor_ms(steady: Mapping[Hashable, Sequence[float]], anchors: Sequence[Run]) -> float | None:
    medians = [statistics.median(steady["anchor", i]) for i in range(len(anchors))]
    return statistics.geometric_mean(medians) if medians else None


def _first(samples: Sequence[tuple[Hashable, float]], anchors: Sequence[Run]) -> list[float]:
    """The times of the first anchor, or of whatever ran first: they show how the machine changed."""
    times = by_key(samples)
    return times["anchor", 0] if anchors else next(iter(times.values()), [])


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
    """Each whole network, with random weights, in the same rounds as the others.

    In two passes of half the rounds each. For the second they are prepared anew, unless that takes longer than timing:
    where weights lie changes a latency by 1%. No new round begins when `seconds`, without those of preparing, are over;
    but ten are done in each pass.
    80 networks are timed at once; where there are more, the anchors bring all to the machine's speed of the first 80.
    """
    import torch

    from mnas.nn.network import build

    def prepared(some: Sequence[int]) -> dict[int, Run]:
        runs = {}
        for i in some:
            images = torch.rand(batch, 3, archs[i].resolution, archs[i].resolution)
            runs[i] = adapter.prepare(build(archs[i], num_classes).eval(), images, threads)
        return runs

    if rounds < 1:
        raise BadInput(f"rounds {rounds}: expected at least 1")
    adapter = get_runtime(runtime)
    parts = -(-len(archs) // NETWORKS_AT_ONCE)
    found: dict[int, Measurement] = {}
    first_ms = None
    with on_cores(adapter, threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        anchors = anchor_runs(adapter, threads)
        order = rng.sample(range(len(archs)), len(archs))
        for nth in range(parts):
            part = _in_two_passes(
                order[nth::parts], prepared, anchors, rounds=-(-rounds // 2), rng=rng, timer=adapter.timed_ms,
                seconds=None if seconds is None else seconds / parts / 2,
                progress=None if progress is None else _within(progress, nth, parts),
            )
            for i, one in part.items():
                first_ms = first_ms or one.anchor_ms
                found[i] = at_speed(one, first_ms)
    return [found[i] for i in range(len(archs))]


def _in_two_passes(
    keys: Sequence[int], prepared: Callable[[Sequence[int]], dict[int, Run]], anchors: Sequence[Run], *, rounds: int,
    rng: random.Random, timer: Timer, seconds: float | None, progress: Callable[[int, int], None] | None,
) -> dict[int, Measurement]:  # fmt: skip
    """So many rounds of all in each pass; the drift of both is taken out at once."""
    passes: list[list[tuple[Hashable, float]]] = []
    runs: dict[int, Run] = {}
    disturbed = ""
    for nth in range(2):
        began = time.perf_counter()
        # in the other order the second time: what is prepared later lies elsewhere, and ran 2% faster (onnxruntime)
        runs = runs or prepared(keys[:: -1 if nth else 1])
        ready = time.perf_counter()
        watch = Watch()
        passes.append(sample(
            _with_anchors(runs, anchors), rounds=rounds, rng=rng, timer=timer, seconds=seconds,
            progress=None if progress is None else _within(progress, nth, 2),
        ))  # fmt: skip
        disturbed = disturbed or watch.disturbed(_first(passes[nth], anchors))
        if ready - began < time.perf_counter() - ready:
            runs = {}
    steady = without_drift([one for samples in passes for one in samples])
    first = len(passes[0]) // (len(keys) + len(anchors))  # rounds of the first pass
    anchor_ms = _anchor_ms(steady, anchors)
    found = {key: together([summary(steady[key][:first]), summary(steady[key][first:])]) for key in keys}
    return {key: _judged(replace(one, anchor_ms=anchor_ms), disturbed) for key, one in found.items()}


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


def doubts(measured: Iterable[Measurement]) -> str:
    """Why figures of several networks may be wrong, each kind of reason once; or empty."""
    reasons = [why for one in measured for why in one.unstable.split("; ") if why]
    return "; ".join({why.partition(":")[0]: why for why in reasons}.values())


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
