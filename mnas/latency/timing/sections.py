"""Layers timed under the conditions that they meet inside a network. Needs Python alone (see rounds)."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from mnas.latency.timing.rounds import K, Run, Timer, no_garbage_collection, trimmed_mean, without_drift

# A layer finds its weights as cold as in a network when about a network's other layers ran since its last turn.
# First trials, onnxruntime, sum of layers against networks timed in turn: -19% for layers alone, 0 to +2% in groups of
# 20, +5% of 32. Groups drawn anew for every three samples: with four draws for twenty, layers measured twice differed
# by 7% in the mean.
GROUP = 20
SECTION = 600
PER_DRAW = 3
COPIES = 4
"""Times that a layer is prepared anew: where its weights and buffers lie changes what it takes by 2 to 4% (torch).
Twice where preparing takes longer than timing a copy, once where it takes longer than timing two."""
LINKS = 60
"""Layers known before that are timed again in each section: they show how fast the machine is now. Where they have to
be prepared anew, no more in a small section than it has layers itself."""
LEAST_MS = 1e-6
"""No layer takes less: what is left of one that hardly takes more than its frame, such as pooling. No link, then."""
SECTION_S = 10.0
"""On a slow device sections are smaller, so that little is lost when it stops."""


@dataclass(frozen=True)
class Section(Generic[K]):
    """Some of the layers, timed together."""

    ms: dict[K, float]
    failed: dict[K, str]
    """Those that the runtime could not run, and why."""


def sections(
    todo: Sequence[K], prepare: Callable[[Sequence[K]], Mapping[K, Run | str]], *, rounds: int,
    rng: random.Random, timer: Timer, known: Mapping[K, float],
    frame_of: Callable[[K], K | None] = lambda key: None,
) -> Iterator[Section[K]]:
    """Times all of `todo` in random order, a section at a time, at the machine's speed when `known` were timed.

    `prepare` gives a run of each layer asked for, or the reason why there is none. What a layer's frame takes, where
    it has one (see frame.py), is timed too and taken off.
    """
    todo, known = list(todo), dict(known)
    rng.shuffle(todo)
    size = 5 * GROUP
    kept: dict[K, Run] = {}
    while todo:
        start = time.perf_counter()
        part, todo = todo[:size], todo[size:]
        links = [key for key, one in known.items() if one > LEAST_MS]
        links = [key for key in links if key in kept] or links
        few = LINKS if links and links[0] in kept else max(GROUP // 2, len(part))
        links = rng.sample(links, min(LINKS, few, len(links)))
        keys = [*part, *links]
        frames = {key: frame for key in keys for frame in [frame_of(key)] if frame is not None}
        framed = dict.fromkeys(one for key in keys for one in (key, frames.get(key)) if one is not None)
        ms, failed = _beyond_frames(keys, frames, *_placed_anew(list(framed), prepare, rounds, rng, timer, kept))
        linked = [known[key] / ms[key] for key in links if ms.get(key, 0.0) > LEAST_MS]
        speed = statistics.median(linked) if linked else 1.0
        found = {key: ms[key] * speed for key in part if key in ms}
        known.update(found)
        yield Section(found, {key: why for key, why in failed.items() if key not in known})
        with_links = int(SECTION_S * (len(part) + len(links)) / max(1e-6, time.perf_counter() - start))
        size = min(max(with_links - LINKS, with_links // 2, GROUP // 2), SECTION)


def _beyond_frames(
    keys: Sequence[K], frames: Mapping[K, K], ms: Mapping[K, float], failed: Mapping[K, str]
) -> tuple[dict[K, float], dict[K, str]]:
    """Milliseconds of each layer beyond its frame's, and why others failed: where the frame did, its layers did too."""
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


def _placed_anew(
    keys: Sequence[K], prepare: Callable[[Sequence[K]], Mapping[K, Run | str]], rounds: int, rng: random.Random,
    timer: Timer, kept: dict[K, Run],
) -> tuple[dict[K, float], dict[K, str]]:
    """Milliseconds of each, over all its copies, without the drift that all have in common; and why others failed.

    Where there is but one copy, those of the first such section are `kept`, to be links.
    """
    began = time.perf_counter()
    runs, failed = able({
        **prepare([key for key in keys if key not in kept]), **{key: kept[key] for key in keys if key in kept}
    })  # fmt: skip
    ready = time.perf_counter()
    draws = max(1, round(rounds / COPIES / PER_DRAW))
    samples = _samples(runs, draws, rng, timer)
    slowness = (ready - began) / max(1e-9, time.perf_counter() - ready)
    alike = COPIES if kept or slowness >= 2 else 2 if slowness >= 1 else 1
    if alike == COPIES and not kept:
        kept.update(list(runs.items())[: 2 * LINKS])  # links and their frames
    for copy in range(1, COPIES):
        if copy % alike == 0:
            runs = able(prepare(rng.sample(list(runs), len(runs))))[0]
        samples += _samples(runs, draws, rng, timer)
    return {key: _mean(times, draws * PER_DRAW) for key, times in without_drift(samples).items()}, failed


def _mean(times: Sequence[float], each: int) -> float:
    """The mean over copies, of `each` times: in a network a layer lies well or badly, as in one copy."""
    return statistics.fmean(trimmed_mean(times[i : i + each]) for i in range(0, len(times), each))


def able(prepared: Mapping[K, Run | str]) -> tuple[dict[K, Run], dict[K, str]]:
    """What ran once, and why the others failed."""
    runs: dict[K, Run] = {}
    failed: dict[K, str] = {}
    for key, run in prepared.items():
        if isinstance(run, str):
            failed[key] = run
            continue
        try:
            run()
            runs[key] = run
        except Exception as error:  # whatever a runtime raises: the rest goes on
            failed[key] = reason(error)
    return runs, failed


def reason(error: Exception) -> str:
    """What an error says, in a line. Kept in its place: the error itself holds the memory of all around it."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _samples(runs: Mapping[K, Run], draws: int, rng: random.Random, timer: Timer) -> list[tuple[K, float]]:
    """PER_DRAW times of each run in each draw of small groups, in the order taken."""
    samples: list[tuple[K, float]] = []
    keys = list(runs)
    parts = max(1, round(len(keys) / GROUP))
    with no_garbage_collection():
        for _ in range(draws):
            rng.shuffle(keys)
            for part in range(parts):
                samples += _drawn(keys[part::parts], runs, rng, timer)
    return samples


def _drawn(group: list[K], runs: Mapping[K, Run], rng: random.Random, timer: Timer) -> list[tuple[K, float]]:
    """Some samples of each member: all run once untimed, then in random order."""
    for key in group:
        runs[key]()
    samples = []
    for _ in range(PER_DRAW):
        # single runs: a second one in a row would find its weights in the cache
        rng.shuffle(group)
        samples += [(key, timer(runs[key], 1)) for key in group]
    return samples
