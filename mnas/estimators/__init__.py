"""Estimators: what gives a candidate's accuracy, and one estimate made by it."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from mnas.errors import BadInput
from mnas.space.architecture import Architecture
from mnas.training.faults import cause_of
from mnas.training.loop import Diverged

log = logging.getLogger("mnas")

Report = Callable[[int, float], None]
"""Called with (step, accuracy so far) during an estimate; raises Pruned to end it early."""


class Pruned(Exception):
    """The estimate was ended early, because the candidate is far worse than others."""


class Estimator(Protocol):
    """Gives an architecture's accuracy, 0..1, on the search-validation split."""

    fidelity: str
    """How the last accuracy was obtained: trained, inherited, fine-tuned, zero-cost."""
    images: int | None
    """Images on which it was measured: their number is its uncertainty. None where it is no share of images."""

    def __call__(self, arch: Architecture, report: Report) -> float: ...


@dataclass(frozen=True)
class Estimate:
    """One estimate of an accuracy."""

    state: Literal["complete", "pruned", "failed"]
    accuracy: float | None
    fidelity: str
    curve: tuple[float, ...]
    """The accuracies reported on the way."""
    seconds: float
    images: int | None = None
    """Images on which the accuracy was measured; None where it is no share of images."""
    error: str = ""
    """Why it failed."""


def make_estimate(estimator: Estimator, arch: Architecture, prune: Callable[[int, float], bool]) -> Estimate:
    """Estimate one accuracy; `prune(step, accuracy)` may end it early. A training that diverges or has
    too little memory, and an accuracy that is not a number, make it a failed one.
    """
    curve: list[float] = []

    def report(step: int, accuracy: float) -> None:
        curve.append(_checked(accuracy))
        if prune(step, curve[-1]):
            raise Pruned

    began = time.monotonic()
    state: Literal["complete", "pruned", "failed"] = "complete"
    accuracy: float | None = None
    why = ""
    try:
        accuracy = _checked(estimator(arch, report))
    except Pruned:
        state, accuracy = "pruned", curve[-1]
    except (Diverged, MemoryError, RuntimeError) as error:
        why = cause_of(error)
        if not why:
            raise
        state = "failed"
        log.warning("%s: %s", arch.id, why)
    seconds = round(time.monotonic() - began, 3)
    return Estimate(state, accuracy, estimator.fidelity, tuple(curve), seconds, estimator.images, why)


def never(step: int, accuracy: float) -> bool:
    """Never prune."""
    return False


def _checked(accuracy: float) -> float:
    number = -1.0
    with contextlib.suppress(TypeError, ValueError):
        number = float(accuracy)
    if math.isnan(number):
        raise Diverged("the estimator gave NaN, not an accuracy")
    if not 0 <= number <= 1:
        raise BadInput(f"the estimator gave {accuracy!r}; expected an accuracy as a number from 0 to 1")
    return number
