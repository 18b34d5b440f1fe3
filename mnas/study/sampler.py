"""The sampler of a search, told what space, latencies and limits say of a network before it is evaluated."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnas.errors import BadInput
from mnas.samplers import make_sampler
from mnas.space.architecture import Architecture
from mnas.space.choices import Option
from mnas.space.space import SearchSpace
from mnas.study.constraints import Limits

EXAMPLES = 300
"""Random networks from which a sampler learns which choices exist together."""


def search_sampler(
    name: str, seed: int, done: int, space: SearchSpace, *, latency: Callable[[Architecture], float] | None,
    limit_ms: float, limits: Limits,
) -> optuna.samplers.BaseSampler:  # fmt: skip
    """A sampler by name, for a search with `done` trials behind it that evaluates nothing slower than `limit_ms`.

    It asks `latency` hundreds of times a proposal; None where each answer is a measurement.
    """

    def known_ms(genes: dict[str, Any]) -> float | None:
        try:
            arch = space.decode(genes)
        except BadInput:  # a choice that none of the examples has
            return None
        if not limits.keeps(arch):
            return math.inf
        return None if latency is None else latency(arch)

    rng = random.Random(seed)
    return make_sampler(
        name, seed, done, known_cost=known_ms, budget=None if math.isinf(limit_ms) else limit_ms,
        examples=lambda: [example(space, rng) for _ in range(EXAMPLES)],
    )  # fmt: skip


def example(space: SearchSpace, rng: random.Random) -> FrozenTrial:
    """A random network's choices as a trial that was never evaluated."""
    drawn = _Drawn(rng)
    space.suggest(drawn)
    return create_trial(state=TrialState.PRUNED, params=drawn.params, distributions=drawn.distributions)


class _Drawn:
    """Stands for an Optuna trial: answers at random, and keeps what it was asked."""

    def __init__(self, rng: random.Random):
        self._rng = rng
        self.params: dict[str, Option] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: list[Option]) -> Option:
        self.distributions[name] = CategoricalDistribution(choices)
        self.params[name] = self._rng.choice(choices)
        return self.params[name]
