"""Latency of whole networks on this machine, timed beside anchor networks that show the machine's speed."""

from __future__ import annotations

import logging
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.machine import measuring, on_cores
from mnas.latency.runtimes import Runtime, check_runs, get_runtime
from mnas.latency.timing.quiet import Watch
from mnas.latency.timing.rounds import (
    Inference,
    Measurement,
    RoundLimits,
    Timer,
    by_key,
    sample,
    summary,
    wall_ms,
    without_drift,
)
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead, Outputs

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("mnas")

K = TypeVar("K", bound=Hashable)
Progress = Callable[[int, int], None]
"""Called with the rounds timed so far and the rounds in all."""

ANCHORS = tuple(
    zoo.get(name, width, resolution) for name, width, resolution in (
        ("mobilenet_v3_large", 1.0, 224), ("mobilenet_v3_large", 1.0, 192), ("mobilenet_v3_large", 0.75, 160),
        ("mobilenet_v3_small", 1.0, 224), ("mnasnet_a1", 1.0, 192), ("mnasnet_a1", 0.75, 160),
        ("mobilenet_v2", 0.75, 192), ("mobilenet_v1", 0.5, 160),
    )
)  # fmt: skip
"""Networks timed beside all others. Several sizes, since a busy neighbour slows large networks more than small ones."""
WIDE = 0.05
"""A 95% interval whose half is wider than this part of the median is called unstable."""
NETWORKS_AT_ONCE = 80
SLOW_S = 30.0
"""Where networks take longer to prepare, it is said before."""
ONE_NETWORK = RoundLimits(rounds=200, seconds=60.0, precision=0.01)
"""For `mnas latency measure`."""


def measure(
    inferences: Mapping[K, Inference], limits: RoundLimits | None = None, *, anchors: Sequence[Inference] = (),
    threads: int = 1, rng: random.Random, timer: Timer = wall_ms, progress: Progress | None = None,
) -> dict[K, Measurement]:  # fmt: skip
    """Times each inference once a round (see `rounds.sample`), on pinned cores, while no other process measures.

    The drift that all have in common, anchors included, is taken out. Disturbances are recorded in `unstable`.
    BadInput for limits that cannot be kept, and for more `threads` than this machine has cores.
    """
    limits = limits or RoundLimits()
    check_limits(limits)
    with on_cores(threads):
        watch = Watch()
        samples = sample(_with_anchors(inferences, anchors), limits, rng=rng, timer=timer, progress=progress)
        disturbance = watch.disturbed(_speed_probe(samples, anchors))
    steady = without_drift(samples)
    anchor_ms = _anchor_ms(steady, anchors)
    return {
        key: _with_instability(replace(summary(steady[key]), anchor_ms=anchor_ms), disturbance) for key in inferences
    }


def check_limits(limits: RoundLimits) -> None:
    """BadInput for limits that are not finite numbers above zero."""
    if limits.rounds < 1:
        raise BadInput(f"--rounds {limits.rounds}: expected at least 1")
    if limits.seconds is not None and not 0 < limits.seconds < math.inf:
        raise BadInput(f"--seconds {limits.seconds:g}: expected a finite number above zero, such as --seconds 60")
    if limits.precision is not None and not 0 <= limits.precision < math.inf:
        raise BadInput(f"--precision {100 * limits.precision:g}: expected a finite number of percent, 0 or more")


def _with_anchors(inferences: Mapping[K, Inference], anchors: Sequence[Inference]) -> dict[Hashable, Inference]:
    named: dict[Hashable, Inference] = {("anchor", i): anchor for i, anchor in enumerate(anchors)}
    named.update(inferences.items())
    return named


def _anchor_ms(steady: Mapping[Hashable, Sequence[float]], anchors: Sequence[Inference]) -> float | None:
    medians = [statistics.median(steady["anchor", i]) for i in range(len(anchors))]
    return statistics.geometric_mean(medians) if medians else None


def _speed_probe(samples: Sequence[tuple[Hashable, float]], anchors: Sequence[Inference]) -> list[float]:
    """The times of the first anchor, or of the first network: they show whether the machine's speed changed."""
    times = by_key(samples)
    return times["anchor", 0] if anchors else next(iter(times.values()), [])


def _with_instability(measurement: Measurement, disturbance: str) -> Measurement:
    """The measurement with `unstable` set: the disturbance, and a wide interval."""
    share = measurement.spread_ms / measurement.median_ms if measurement.rounds > 1 else 0.0
    wide = f"its times vary: +-{100 * share:.0f}% after {measurement.rounds} rounds" if share > WIDE else ""
    return replace(measurement, unstable="; ".join(filter(None, [disturbance, wide])))


def measure_networks(
    archs: Sequence[Architecture], conditions: Conditions, limits: RoundLimits | None = None, *,
    num_classes: Outputs | Sequence[Outputs] = 1000, anchors: Sequence[Architecture] | None = None, rng: random.Random,
    progress: Progress | None = None,
) -> list[Measurement]:  # fmt: skip
    """Latency of each whole network, with random weights, all in the same rounds.

    `num_classes`, or the head that they are under, is that of all networks, or of each one. `anchors` are timed beside
    them; `ANCHORS` by default.

    In two passes of half the rounds and half the seconds each, with at least ten rounds a pass. For the second pass the
    networks are prepared again, unless that takes longer than timing them: where weights lie in memory changes a
    latency by 1%. The seconds do not include preparing.
    80 networks are timed at once; where there are more, the anchors scale all to the machine's speed of the first 80,
    unless there are none.
    """
    import torch

    from mnas.nn.dense import network_for

    def prepare(indices: Sequence[int]) -> dict[int, Inference]:
        inferences, began = {}, time.perf_counter()
        for i in indices:
            images = torch.rand(archs[i].input_shape(conditions.batch))
            inferences[i] = adapter.prepare(network_for(archs[i], classes[i]), images, conditions.threads)
            seconds = (time.perf_counter() - began) * len(indices)
            if len(inferences) == 1 and seconds > SLOW_S:
                log.info("preparing %d networks with %s, about %.0f s", len(indices), adapter.name, seconds)
        return inferences

    limits = limits or RoundLimits()
    check_limits(limits)
    classes = [num_classes] * len(archs) if isinstance(num_classes, int | DenseHead) else num_classes
    for outputs in set(classes):
        check_runs(conditions.runtime, outputs)
    adapter = get_runtime(conditions.runtime)
    parts = -(-len(archs) // NETWORKS_AT_ONCE)
    measurements: dict[int, Measurement] = {}
    first_anchor_ms = None
    with measuring(adapter, conditions.threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(63))
        timed_beside = anchor_inferences(adapter, conditions.threads, anchors)
        order = rng.sample(range(len(archs)), len(archs))
        seconds = None if limits.seconds is None else limits.seconds / max(1, parts) / 2
        per_pass = replace(limits, rounds=-(-limits.rounds // 2), seconds=seconds)
        for nth in range(parts):
            part = _in_two_passes(
                order[nth::parts], prepare, timed_beside, per_pass, rng=rng, timer=adapter.timed_ms,
                progress=None if progress is None else _step(progress, nth, parts),
            )  # fmt: skip
            for i, measurement in part.items():
                first_anchor_ms = first_anchor_ms or measurement.anchor_ms
                measurements[i] = rescaled_to_anchor(measurement, first_anchor_ms)
    return [measurements[i] for i in range(len(archs))]


def _in_two_passes(
    keys: Sequence[int], prepare: Callable[[Sequence[int]], dict[int, Inference]], anchors: Sequence[Inference],
    limits: RoundLimits, *, rng: random.Random, timer: Timer, progress: Progress | None,
) -> dict[int, Measurement]:  # fmt: skip
    """Two passes within `limits` each; the drift of both is taken out together."""
    passes: list[list[tuple[Hashable, float]]] = []
    inferences: dict[int, Inference] = {}
    disturbance = ""
    for nth in range(2):
        start = time.perf_counter()
        # in reverse order the second time: networks prepared later ran 2% faster (onnxruntime)
        inferences = inferences or prepare(keys[:: -1 if nth else 1])
        ready = time.perf_counter()
        watch = Watch()
        passes.append(sample(
            _with_anchors(inferences, anchors), limits, rng=rng, timer=timer,
            progress=None if progress is None else _step(progress, nth, 2),
        ))  # fmt: skip
        disturbance = disturbance or watch.disturbed(_speed_probe(passes[nth], anchors))
        if ready - start < time.perf_counter() - ready:
            inferences = {}
    steady = without_drift([timed for samples in passes for timed in samples])
    first_rounds = len(passes[0]) // (len(keys) + len(anchors))
    anchor_ms = _anchor_ms(steady, anchors)
    both = {key: pooled([summary(steady[key][:first_rounds]), summary(steady[key][first_rounds:])]) for key in keys}
    return {key: _with_instability(replace(both[key], anchor_ms=anchor_ms), disturbance) for key in keys}


def _step(progress: Progress, step: int, steps: int) -> Progress:
    """Progress of one step of several."""
    return lambda count, total: progress(step * total + count, steps * total)


def pooled(measurements: Sequence[Measurement]) -> Measurement:
    """One measurement from several of one network; their difference counts as uncertainty."""
    medians = [part.median_ms for part in measurements]
    spread = max([(max(medians) - min(medians)) / 2, *(p.spread_ms / len(medians) ** 0.5 for p in measurements)])
    repeatability = abs(medians[0] / medians[1] - 1) if len(medians) == 2 else None
    reasons = dict.fromkeys(part.unstable for part in measurements if part.unstable)
    return replace(
        measurements[0], median_ms=statistics.fmean(medians), spread_ms=spread,
        rounds=sum(part.rounds for part in measurements), repeatability=repeatability, unstable="; ".join(reasons),
    )  # fmt: skip


def instabilities(measurements: Iterable[Measurement]) -> str:
    """Why the measurements may be wrong, one example of each kind of reason; empty where there is none."""
    reasons = [why for measurement in measurements for why in measurement.unstable.split("; ") if why]
    return "; ".join({why.partition(":")[0]: why for why in reasons}.values())


def rescaled_to_anchor(measurement: Measurement, anchor_ms: float | None) -> Measurement:
    """The measurement at the machine's speed at which the anchors take `anchor_ms`."""
    if anchor_ms is None or measurement.anchor_ms is None:
        return measurement
    factor = anchor_ms / measurement.anchor_ms
    return replace(
        measurement, median_ms=measurement.median_ms * factor, spread_ms=measurement.spread_ms * factor,
        anchor_ms=anchor_ms,
    )  # fmt: skip


def anchor_inferences(
    adapter: Runtime, threads: int, anchors: Sequence[Architecture] | None = None
) -> list[Inference]:
    """The anchor networks (`ANCHORS` by default) under this runtime, with random weights, at batch 1."""
    import torch

    from mnas.nn.network import build

    inferences = []
    for arch in ANCHORS if anchors is None else anchors:
        images: Tensor = torch.rand(arch.input_shape(1))
        inferences.append(adapter.prepare(build(arch, 1000).eval(), images, threads))
    return inferences
