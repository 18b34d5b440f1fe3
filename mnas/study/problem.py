"""The problem that a search solves: a space, an objective, latency budgets and constraints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mnas.config import Objective
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs
from mnas.space.space import SearchSpace
from mnas.study import objective
from mnas.study.constraints import NO_CONSTRAINTS, Constraints
from mnas.study.trial import Trial


@dataclass(frozen=True)
class Problem:
    """What to maximise, over which networks, and within which limits."""

    space: SearchSpace
    objective: Objective
    latency: Callable[[Architecture], float]
    """Milliseconds of a network, predicted or measured."""
    fastest: Architecture
    """The fastest network of the space within budgets and constraints."""
    slowest_ms: float
    """Latency of the slowest network of the space; the hypervolume's bound."""
    budgets_ms: tuple[float, ...] = ()
    """Latency budgets, ascending; empty where there is none, several where each is to have a winner."""
    constraints: Constraints = NO_CONSTRAINTS
    num_classes: Outputs = 1000

    @property
    def budget_ms(self) -> float | None:
        """The largest latency budget; None without one."""
        return max(self.budgets_ms, default=None)

    @property
    def cutoff_ms(self) -> float:
        """Slower networks are not evaluated."""
        return math.inf if self.budget_ms is None else self.budget_ms * self.objective.evaluate_up_to

    def allows(self, arch: Architecture) -> bool:
        """Whether `arch` may be evaluated: it is fast enough and satisfies the constraints."""
        return self.latency(arch) <= self.cutoff_ms and self.constraints.satisfied_by(arch)

    def values(self, accuracy: float, latency_ms: float) -> list[float]:
        """The objective values for Optuna."""
        return objective.values(self.objective, accuracy, latency_ms, self.budget_ms)

    def reward(self, accuracy: float, latency_ms: float) -> float | None:
        """The reward; None where accuracy and latency are two objectives."""
        return None if objective.is_pareto(self.objective) else self.values(accuracy, latency_ms)[0]

    def violations(self, arch: Architecture, latency_ms: float) -> dict[str, float]:
        """Optuna's constraints by name: above 0 where `arch` may not be evaluated."""
        violations = {}
        if self.budget_ms is not None:
            violations["latency"] = latency_ms / self.cutoff_ms - 1
        if self.constraints.items:
            violations["limits"] = self.constraints.usage(arch) - 1
        return violations

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The best finished trial within the budget, by the objective."""
        limit_ms = self.budget_ms or math.inf
        candidates = [trial for trial in trials if trial.state == "complete" and trial.latency_ms <= limit_ms]
        return max(candidates, key=self._ranking_key, default=None)

    def _ranking_key(self, trial: Trial) -> tuple[float, float]:
        return objective.ranking_key(self.objective, trial.accuracy or 0.0, trial.latency_ms, self.budget_ms)
