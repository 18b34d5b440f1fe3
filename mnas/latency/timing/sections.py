"""Layers timed under the conditions of a network: among other layers, weights out of the cache. Python 3.8 alone."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from mnas.latency.timing.rounds import Inference, K, Timer, no_garbage_collection, trimmed_mean, without_drift

# A layer's weights are as cold as in a network when about a network's other layers ran since it ran last.
# The sum of layers against whole networks timed in turn (onnxruntime): -19% for layers alone, 0 to +2% in groups of 20,
# +5% in groups of 32. Groups are drawn again for every three samples: with four draws for twenty samples, two
# measurements of a layer differed by 7% in the mean.
GROUP = 20
MAX_SECTION = 600
PER_DRAW = 3
COPIES = 4
"""How often a layer is prepared: where its weights and buffers lie in memory changes its time by 2 to 4% (torch).
Twice where preparing takes longer than timing a copy, once where it takes longer than timing two."""
LINKS = 60
"""Layers of earlier sections that are timed again in each section, to compare the machine's speed. A small section has
no more links than layers where the links must be prepared again."""
LEAST_MS = 1e-6
"""Floor of a layer's time. A layer at the floor takes hardly longer than its frame, such as pooling; it is no link."""
SECTION_S = 10.0
"""Aimed duration of a section: a slow device gets smaller ones, so that little is lost when it stops."""


@dataclass(frozen=True)
class Section(Generic[K]):
    """Layers that were timed together."""

    ms: dict[K, float]
    failed: dict[K, str]
    """Layers that the runtime could not run, with its message."""


def sections(
    todo: Sequence[K], prepare: Callable[[Sequence[K]], Mapping[K, Inference | str]], *, rounds: int,
    rng: random.Random, timer: Timer, timed_ms: Mapping[K, float],
    frame_of: Callable[[K], K | None] = lambda key: None,
) -> Iterator[Section[K]]:
    """Times all of `todo` in random order, section by section, at the machine's speed during the first section.

    `prepare` returns an inference for each layer, or the reason why there is none. `timed_ms` has the layers of earlier
    sections. Where a layer has a frame (see frame.py), the frame is timed too and subtracted.
    """
    todo, timed_ms = list(todo), dict(timed_ms)
    rng.shuffle(todo)
    size = 5 * GROUP
    kept: dict[K, Inference] = {}
    while todo:
        start = time.perf_counter()
        part, todo = todo[:size], todo[size:]
        links = _links(timed_ms, kept, len(part), rng)
        keys = [*part, *links]
        frames = {key: frame for key in keys for frame in [frame_of(key)] if frame is not None}
        framed = dict.fromkeys(key for layer in keys for key in (layer, frames.get(layer)) if key is not None)
        ms, failed = _beyond_frames(keys, frames, *_time_copies(list(framed), prepare, rounds, rng, timer, kept))
        ratios = [timed_ms[key] / ms[key] for key in links if ms.get(key, 0.0) > LEAST_MS]
        speed = statistics.median(ratios) if ratios else 1.0
        part_ms = {key: ms[key] * speed for key in part if key in ms}
        timed_ms.update(part_ms)
        yield Section(part_ms, {key: why for key, why in failed.items() if key not in timed_ms})
        in_time = int(SECTION_S * (len(part) + len(links)) / max(1e-6, time.perf_counter() - start))
        size = min(max(in_time - LINKS, in_time // 2, GROUP // 2), MAX_SECTION)


def _links(timed_ms: Mapping[K, float], kept: Mapping[K, Inference], size: int, rng: random.Random) -> list[K]:
    """Layers timed before, drawn to be timed again; still prepared ones where there are any."""
    candidates = [key for key, ms in timed_ms.items() if ms > LEAST_MS]
    candidates = [key for key in candidates if key in kept] or candidates
    most = LINKS if candidates and candidates[0] in kept else max(GROUP // 2, size)
    return rng.sample(candidates, min(LINKS, most, len(candidates)))


def _beyond_frames(
    keys: Sequence[K], frames: Mapping[K, K], ms: Mapping[K, float], failed: Mapping[K, str]
) -> tuple[dict[K, float], dict[K, str]]:
    """Milliseconds of each layer without its frame, and why others failed; a layer fails where its frame does."""
    beyond: dict[K, float] = {}
    why: dict[K, str] = {}
    for key in keys:
        if key in failed:
            why[key] = failed[key]
        elif key in frames and frames[key] in failed:
            why[key] = f"its frame: {failed[frames[key]]}"
        else:
            beyond[key] = max(ms[key] - (ms[frames[key]] if key in frames else 0.0), LEAST_MS)
    return beyond, why


def _time_copies(
    keys: Sequence[K], prepare: Callable[[Sequence[K]], Mapping[K, Inference | str]], rounds: int, rng: random.Random,
    timer: Timer, kept: dict[K, Inference],
) -> tuple[dict[K, float], dict[K, str]]:
    """Milliseconds of each layer over all its copies, without their common drift; and why others failed.

    Where preparing is so slow that there is one copy, the first section's inferences are `kept` as links.
    """
    start = time.perf_counter()
    inferences, failed = runnable({
        **prepare([key for key in keys if key not in kept]), **{key: kept[key] for key in keys if key in kept}
    })  # fmt: skip
    ready = time.perf_counter()
    draws = max(1, round(rounds / COPIES / PER_DRAW))
    samples = _samples(inferences, draws, rng, timer)
    slowness = (ready - start) / max(1e-9, time.perf_counter() - ready)
    uses_of_a_copy = COPIES if kept or slowness >= 2 else 2 if slowness >= 1 else 1
    if uses_of_a_copy == COPIES and not kept:
        kept.update(list(inferences.items())[: 2 * LINKS])  # links and their frames
    for copy in range(1, COPIES):
        if copy % uses_of_a_copy == 0:
            inferences = runnable(prepare(rng.sample(list(inferences), len(inferences))))[0]
        samples += _samples(inferences, draws, rng, timer)
    return {key: _mean(times, draws * PER_DRAW) for key, times in without_drift(samples).items()}, failed


def _mean(times: Sequence[float], per_copy: int) -> float:
    """The mean over copies of their trimmed means: copies differ by where they lie in memory, as in networks."""
    return statistics.fmean(trimmed_mean(times[i : i + per_copy]) for i in range(0, len(times), per_copy))


def runnable(prepared: Mapping[K, Inference | str]) -> tuple[dict[K, Inference], dict[K, str]]:
    """Runs each once: the inferences that ran, and why the others failed."""
    inferences: dict[K, Inference] = {}
    failed: dict[K, str] = {}
    for key, inference in prepared.items():
        if isinstance(inference, str):
            failed[key] = inference
            continue
        try:
            inference()
            inferences[key] = inference
        except Exception as error:  # whatever a runtime raises, the other layers are timed
            failed[key] = reason(error)
    return inferences, failed


def reason(error: Exception) -> str:
    """An error's message in a line. Stored in place of the error, whose traceback holds its frames' memory."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _samples(
    inferences: Mapping[K, Inference], draws: int, rng: random.Random, timer: Timer
) -> list[tuple[K, float]]:
    """PER_DRAW times of each inference in each draw of small groups, in the order timed."""
    samples: list[tuple[K, float]] = []
    keys = list(inferences)
    groups = max(1, round(len(keys) / GROUP))
    with no_garbage_collection():
        for _ in range(draws):
            rng.shuffle(keys)
            for group in range(groups):
                samples += _time_group(keys[group::groups], inferences, rng, timer)
    return samples


def _time_group(
    group: list[K], inferences: Mapping[K, Inference], rng: random.Random, timer: Timer
) -> list[tuple[K, float]]:
    """PER_DRAW samples of each member, in random order; all run once untimed first."""
    for key in group:
        inferences[key]()
    samples = []
    for _ in range(PER_DRAW):
        # single inferences: a second one in a row would find its weights in the cache
        rng.shuffle(group)
        samples += [(key, timer(inferences[key], 1)) for key in group]
    return samples
