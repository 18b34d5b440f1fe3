"""The race: successive halving by the real recipe (arXiv 1502.07943), of found networks and an expert's choices.

All contenders start their full training; at each rung the weaker half is dropped, and the others train on from where
they are. The best reference is never dropped: it is what the winner is compared with.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mnas.errors import MnasError
from mnas.latency.timing.rounds import Measurement
from mnas.space.architecture import Architecture
from mnas.training.full import Standing, Weights

log = logging.getLogger("mnas")

RUNGS = (1 / 8, 1 / 4, 1 / 2)
"""Fractions of the recipe's epochs after which the weaker half is dropped."""
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


@dataclass(frozen=True)
class Placing:
    """A contender with its standing at a rung; None where its training diverged."""

    contender: Contender
    standing: Standing | None


Rank = Callable[[float, float], tuple[float, float]]
"""(accuracy 0..1, latency in ms) -> a sort key; the largest is the best."""
Advance = Callable[[Sequence[Contender], int], list[Standing | None]]
"""Trains each contender until that epoch, from where it is; None for one whose training diverged."""
Affords = Callable[[Sequence[Placing], int], bool]
"""Whether time allows for these contenders to train on from that epoch."""


def rungs_of(epochs: int, least: int = 1) -> tuple[int, ...]:
    """The epochs, below `epochs`, after which contenders are dropped; the first rung is left out if before `least`."""
    rungs = sorted({max(1, round(epochs * fraction)) for fraction in RUNGS} - {epochs})
    return tuple(rungs[len(rungs) == len(RUNGS) and rungs[0] < least :])


def race(
    contenders: Sequence[Contender], rungs: Sequence[int], advance: Advance, rank: Rank, affords: Affords,
    dropped: Callable[[int, Sequence[Placing], Sequence[Placing]], None] = lambda *_: None,
    done: Sequence[Sequence[str]] = (),
) -> list[Placing]:  # fmt: skip
    """Run a race; the placings of those trained to the end, best first.

    `rungs` are the epochs after which contenders are dropped (see `rungs_of`), and at last those of the whole training.
    `dropped(epoch, placings, survivors)` is called after each rung, and `done` has the survivors' names of the rungs
    that an earlier process finished. Raises MnasError where every training diverged.
    """
    alive, epochs = list(contenders), rungs[-1]
    for rung, epoch in enumerate(rungs[:-1]):
        if rung < len(done):
            alive = [contender for contender in alive if contender.name in done[rung]]
            continue
        if len(alive) < 2:
            break
        placings = ordered(_placings(alive, epoch, advance), rank)
        kept = survivors(placings, epoch, affords, apart=2 * epoch < epochs)
        dropped(epoch, placings, kept)
        alive = [placing.contender for placing in kept]
    return ordered(_placings(alive, epochs, advance), rank)


def _placings(alive: Sequence[Contender], epoch: int, advance: Advance) -> list[Placing]:
    placings = [Placing(*pair) for pair in zip(alive, advance(alive, epoch), strict=True)]
    if all(placing.standing is None for placing in placings):
        names = ", ".join(contender.name for contender in alive)
        raise MnasError(f"every training of the race diverged ({names}); a new run may try --set recipe.lr=0.05")
    return placings


def ordered(placings: Sequence[Placing], rank: Rank) -> list[Placing]:
    """Best first; those that diverged are last."""

    def key(placing: Placing) -> tuple[float, float]:
        if placing.standing is None:
            return (-math.inf, 0.0)
        return rank(placing.standing.accuracy, placing.contender.latency.median_ms)

    return sorted(placings, key=key, reverse=True)


def survivors(placings: Sequence[Placing], epoch: int, affords: Affords, apart: bool = False) -> list[Placing]:
    """Those of `placings`, best first, that train on after a rung: the better half, the best reference among them.

    The reference takes the place of the last one above the line, but never that of the best. Where the first one below
    the line cannot be told apart from the last one above it, both train on if time allows; otherwise the faster does.
    `apart`: inherited weights have a head start that may not last, so those who began with them and those who did not
    are halved apart.
    """
    running = [placing for placing in placings if placing.standing is not None]
    if apart and len({placing.contender.weights for placing in running}) > 1:
        kept = [
            one for weights in ("scratch", "inherited")
            for one in survivors([p for p in running if p.contender.weights == weights], epoch, affords)
        ]
        return [placing for placing in running if placing in kept]
    half = -(-len(running) // 2)
    kept, others = running[:half], running[half:]
    if others and tied(kept[-1], others[0]):
        if affords([*kept, others[0]], epoch):
            kept.append(others[0])
        elif _ms(others[0]) < _ms(kept[-1]):
            kept[-1] = others[0]
    reference = next((placing for placing in running if placing.contender.kind == "reference"), None)
    return kept if reference is None or reference in kept else [*(kept[:-1] or kept), reference]


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
    """Whether two contenders cannot be told apart by the images that only one of them classifies correctly."""
    if first.standing is None or second.standing is None:
        return False
    if len(first.standing.correct) != len(second.standing.correct):  # images have gone since one of them was judged
        shares = [(one.standing.accuracy, len(one.standing.correct)) for one in (first, second) if one.standing]
        error = math.sqrt(sum(share * (1 - share) / max(1, images) for share, images in shares))
        return abs(shares[0][0] - shares[1][0]) <= TIE * error
    weights = 1.0 if first.standing.weights is None else first.standing.weights
    differs = weights * (first.standing.correct.astype(float) - second.standing.correct)
    return abs(float(differs.sum())) <= TIE * math.sqrt(float((differs**2).sum()))


def _ms(placing: Placing) -> float:
    return placing.contender.latency.median_ms
