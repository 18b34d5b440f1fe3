"""A study that takes a second: latency, accuracy and estimator that cost nothing, a problem over the tiny space."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import yaml
from small_search import TINY_SPACE

from mnas.config import load_objective
from mnas.estimators import Report
from mnas.io.strict_yaml import validate
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.study.constraints import Constraint, Constraints
from mnas.study.problem import Problem


@functools.cache
def tiny_space() -> SearchSpace:
    """The space of 2880 small networks."""
    return SearchSpace(validate(SpaceFile, yaml.safe_load(TINY_SPACE), "tiny"))


def milliseconds(arch: Architecture) -> float:
    return cost(arch, 10).madds / 1e6


def accuracy(arch: Architecture) -> float:
    """Larger is better, with a small difference for each network."""
    return min(0.99, 0.5 + cost(arch, 10).madds / 4e6 + random.Random(arch.id).random() / 50)


class Counting:
    """An estimator that records the networks it evaluates."""

    def __init__(self, accuracy: Callable[[Architecture], Any] = accuracy):
        self.accuracy, self.evaluated = accuracy, list[Architecture]()
        self.fidelity, self.images = "", 400

    def __call__(self, arch: Architecture, report: Report) -> float:
        self.evaluated.append(arch)
        self.fidelity = "guessed"
        for step in (1, 2, 3):
            report(step, self.accuracy(arch) * step / 3)
        self.fidelity = "counted"
        return self.accuracy(arch)


def problem_of(
    space: SearchSpace, objective: str = "mnasnet", budgets_ms: tuple[float, ...] = (0.6,), **options: Any
) -> Problem:
    """The search for an accurate network of `space` within the budgets."""
    return Problem(
        space, load_objective(objective), milliseconds, fastest=space.argmin(milliseconds), slowest_ms=2.0,
        budgets_ms=budgets_ms, num_classes=10, **options,
    )  # fmt: skip


def at_most_params(space: SearchSpace, part: float) -> Constraints:
    """A constraint that about this part of the space's networks satisfies."""
    counts = sorted(cost(arch, 10).params for arch in space.enumerate())
    limit = counts[int(part * (len(counts) - 1))]
    return Constraints((Constraint("--max-params", limit, lambda costs: costs.params),), 10)
