"""The race: successive halving by the real recipe (arXiv 1502.07943), of found networks and an expert's choices.

All contenders start their full training; at each rung the weaker half is dropped, and the others train on from where
they are. Where it is compared with the winner, the best reference is never dropped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnas.errors import MnasError
from mnas.latency.timing.rounds import Measurement
from mnas.space.architecture import Architecture
from mnas.training.full import Standing, Weights

log = logging.getLogger("mnas")

RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""Parts of each training after which the weaker half is dropped."""
TIE = 1.0
"""Two contenders whose accuracies differ by at most this many standard errors cannot be told apart."""


@dataclass(frozen=True)
class Contender:
    """A network that enters a race."""

    name: str
    """Such as 'trial 12' or 'mobilenet_v3_large@0.75/160'."""
    architecture: Architecture
    kind: Literal["found", "reference"]
    latency: Measurement
    """As a whole network."""
    weights: Weights = "scratch"
    """What its training starts from."""
    trial: int | None = None
    """Its number in the study, if it was found."""
    epochs: int = 0
    """Of its whole training; 0 until they are decided."""

    def epochs_at(self, part: float) -> int:
        """The epochs after which this part (0..1) of its training is done."""
        return max(1, round(self.epochs * part))


@dataclass(frozen=True)
class Placing:
    """A contender with its standing at a rung; None where its training diverged."""

    contender: Contender
    standing: Standing | None


Rank = Callable[[float, float], tuple[float, float]]
"""(accuracy 0..1, latency in ms) -> a sort key; the largest is the best."""
Advance = Callable[[Sequence[Contender], float], list[Standing | None]]
"""Trains each contender until that part of its training, from where it is; None for one whose training diverged."""
Affords = Callable[[Sequence[Placing], float], bool]
"""Whether time allows for these contenders to train on from that rung."""
Settle = Callable[[float, Sequence[Placing], Sequence[Placing]], Mapping[str, int]]
"""(rung, placings, survivors) -> the epochs of each survivor's whole training, by name."""


@dataclass(frozen=True)
class Rules:
    """How the placings of a rung are judged."""

    order: Callable[[Sequence[Placing]], list[Placing]]
    """Best first."""
    affords: Affords
    compared: bool = True
    """Whether the best reference is trained to the end in any case, for the winner to be compared with."""
    kept_first: float = 0.5
    """The part that trains on after an eighth: more than half where all train for the same time, since those with
    small inputs lead at first (benchmarks/found_vs_reference.py)."""


def rungs_of(epochs: int, least: int = 1) -> tuple[float, ...]:
    """The rungs of a race whose shortest training has so many epochs, as parts of each training.

    No two after the same epoch, and none at the end; the first of three is left out if before `least` epochs.
    """
    after = {max(1, round(epochs * rung)): rung for rung in RUNGS}
    rungs = sorted((epoch, rung) for epoch, rung in after.items() if epoch < epochs)
    return tuple(rung for _, rung in rungs[len(rungs) == len(RUNGS) and rungs[0][0] < least :])


def race(
    contenders: Sequence[Contender], rungs: Sequence[float], advance: Advance, rules: Rules,
    settle: Settle | None = None, done: Sequence[Mapping[str, int]] = (),
) -> list[Placing]:  # fmt: skip
    """Run a race; the placings of those trained to the end, best first.

    `rungs` are those of `rungs_of`. `settle` is called after each, and `done` has what it gave after the rungs that an
    earlier process finished; without it all keep their epochs. Raises MnasError where every training diverged.
    """
    alive = list(contenders)
    for number, rung in enumerate(rungs):
        if number < len(done):
            epochs = done[number]
        elif len(alive) < 2:
            break
        else:
            placings = rules.order(_placings(alive, rung, advance))
            kept = survivors(placings, rung, rules)
            epochs = {placing.contender.name: placing.contender.epochs for placing in kept}
            epochs = epochs if settle is None else settle(rung, placings, kept)
        alive = [replace(one, epochs=epochs[one.name]) for one in alive if one.name in epochs]
    return rules.order(_placings(alive, 1.0, advance))


def _placings(alive: Sequence[Contender], part: float, advance: Advance) -> list[Placing]:
    placings = [Placing(*pair) for pair in zip(alive, advance(alive, part), strict=True)]
    if all(placing.standing is None for placing in placings):
        names = ", ".join(contender.name for contender in alive)
        raise MnasError(
            f"every training of the race diverged or ran out of memory ({names}), as the log says: a new run may try "
            "--set recipe.lr=0.05, or --set recipe.batch_size=32"
        )
    return placings


def ordered(placings: Sequence[Placing], rank: Rank) -> list[Placing]:
    """Best first; those that diverged are last."""

    def key(placing: Placing) -> tuple[float, float]:
        if placing.standing is None:
            return (-math.inf, 0.0)
        return rank(placing.standing.accuracy, placing.contender.latency.median_ms)

    return sorted(placings, key=key, reverse=True)


def survivors(placings: Sequence[Placing], rung: float, rules: Rules) -> list[Placing]:
    """Those of `placings`, best first, that train on after a rung: the better half.

    Before half of the training, given weights have a head start that may not last, so those who began with them and
    those who did not are halved apart.
    """
    running = [placing for placing in placings if placing.standing is not None]
    fresh = [placing for placing in running if placing.contender.weights == "scratch"]
    others = [placing for placing in running if placing not in fresh]
    if 2 * rung >= 1 or not fresh or not others:
        return _better_half(running, rung, rules)
    kept = [one for group in (fresh, others) for one in _better_half(group, rung, rules)]
    return [placing for placing in running if placing in kept]


def _better_half(running: Sequence[Placing], rung: float, rules: Rules) -> list[Placing]:
    """Where the first one below the line cannot be told apart from the last one above it, both train on if time allows.

    Otherwise the published one of them does, or else the faster. A reference that is compared with takes the place of
    the last one above the line, but never that of the best. Where none is, a single one is left after the last rung:
    which of two equals is trained to the end is not worth half of a training.
    """
    single = rung == RUNGS[-1] and not rules.compared
    part = rules.kept_first if rung == RUNGS[0] else 0.5
    half = 1 if single else math.ceil(part * len(running))
    kept, others = list(running[:half]), running[half:]
    if others and tied(kept[-1], others[0]):
        if not single and rules.affords([*kept, others[0]], rung):
            kept.append(others[0])
        else:
            kept[-1] = min(kept[-1], others[0], key=lambda one: (one.contender.kind != "reference", _ms(one)))
    reference = next((placing for placing in running if placing.contender.kind == "reference"), None)
    if not rules.compared or reference is None or reference in kept:
        return kept
    return [*(kept[:-1] or kept), reference]


def displaced_by(dropped: Placing, kept: Sequence[Placing]) -> Placing | None:
    """Who trains on although `dropped` did better: one that it cannot be told apart from, or the reference."""
    return next(
        (
            one for one in kept if one.standing and dropped.standing
            and one.standing.accuracy < dropped.standing.accuracy
            and (tied(one, dropped) or one.contender.kind == "reference" != dropped.contender.kind)
        ), None,
    )  # fmt: skip


def published_first(placings: Sequence[Placing]) -> list[Placing]:
    """The placings of a race, best first, with the best reference before those found that it cannot be told apart from.

    For candidates that were chosen without training: nothing but the race says that they are any better, and the best
    of several draws on few images is better by luck alone.
    """
    reference = next((one for one in placings if one.contender.kind == "reference" and one.standing), None)
    if reference is None or not tied(placings[0], reference):
        return list(placings)
    return [reference, *(one for one in placings if one is not reference)]


def tied(first: Placing, second: Placing) -> bool:
    """Whether two contenders cannot be told apart by the images that only one of them classifies correctly.

    Or, where the figure is no share of images, by its pseudo-values.
    """
    if first.standing is None or second.standing is None:
        return False
    if first.standing.parts is not None and second.standing.parts is not None:
        return _within_noise(first.standing.parts - second.standing.parts)
    if len(first.standing.correct) != len(second.standing.correct):  # images have gone since one of them was judged
        shares = [(one.standing.accuracy, len(one.standing.correct)) for one in (first, second) if one.standing]
        error = math.sqrt(sum(share * (1 - share) / max(1, images) for share, images in shares))
        return abs(shares[0][0] - shares[1][0]) <= TIE * error
    weights = 1.0 if first.standing.weights is None else first.standing.weights
    differs = weights * (first.standing.correct.astype(float) - second.standing.correct)
    return _within_noise(differs)


def _within_noise(differs: NDArray[np.float64]) -> bool:
    """Whether the mean of differences (n,) is at most TIE standard errors from zero."""
    return abs(float(differs.sum())) <= TIE * math.sqrt(float((differs**2).sum()))


def _ms(placing: Placing) -> float:
    return placing.contender.latency.median_ms
