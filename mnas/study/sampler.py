"""The sampler of a search, given the space's choices and each network's latency and constraints in advance."""

from __future__ import annotations

import math
import random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnas.errors import BadInput
from mnas.samplers import make_sampler
from mnas.space.choices import Option
from mnas.space.space import SearchSpace
from mnas.study.problem import Problem

EXAMPLES = 300
"""Random networks from which a sampler learns which choices exist together."""


def search_sampler(
    name: str, problem: Problem, *, seed: int, quick: bool, counted: int | None = None
) -> optuna.samplers.BaseSampler:
    """A sampler by name; it proposes nothing above the problem's cutoff.

    It computes hundreds of latencies for a proposal, so only where that is `quick`: not where each is a measurement.
    `counted` is the number of images on which accuracies are measured.
    """

    def known_ms(choices: dict[str, Any]) -> float | None:
        try:
            arch = problem.space.decode(choices)
        except BadInput:  # a choice that none of the examples has
            return None
        if not problem.constraints.satisfied_by(arch):
            return math.inf
        return problem.latency(arch) if quick else None

    rng, anything_known = random.Random(seed), quick or bool(problem.constraints.items)
    return make_sampler(
        name, seed, known_cost=known_ms if anything_known else None,
        budget=problem.cutoff_ms if anything_known and math.isfinite(problem.cutoff_ms) else None,
        examples=lambda: [example(problem.space, rng) for _ in range(EXAMPLES)], counted=counted,
    )  # fmt: skip


def example(space: SearchSpace, rng: random.Random) -> FrozenTrial:
    """A random network's choices as a trial without a value."""
    trial = _RandomTrial(rng)
    space.suggest(trial)
    return create_trial(state=TrialState.PRUNED, params=trial.params, distributions=trial.distributions)


class _RandomTrial:
    """Stands in for an Optuna trial: draws each choice at random and records it."""

    def __init__(self, rng: random.Random):
        self._rng = rng
        self.params: dict[str, Option] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: list[Option]) -> Option:
        """A random one of the choices."""
        self.distributions[name] = CategoricalDistribution(choices)
        self.params[name] = self._rng.choice(choices)
        return self.params[name]
