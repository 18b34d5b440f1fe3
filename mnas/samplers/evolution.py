"""Evolution: regularised evolution for one objective, NSGA-II for several."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.study import Study

from mnas.samplers.base import ChoiceSampler, Floats
from mnas.samplers.choices import Points
from mnas.samplers.pareto import ranks

CHILDREN = 32
"""Children of a proposal; the first that is new and within the budget is proposed."""
CROSSOVER = 0.5
"""Part of the children with two parents."""


class EvolutionSampler(ChoiceSampler):
    """Mutates the best trials, within a known cost.

    One objective: regularised evolution (arXiv 1802.01548): of the youngest `population` trials, the best of
    `tournament` random ones is a parent. Several: NSGA-II (Deb et al. 2002) with the best `population` of all trials by
    front and crowding. A child has about `changes` mutations; half of the children are crossed with a second parent
    first. The first `population` trials are random. Other arguments are ChoiceSampler's.
    """

    def __init__(self, *, population: int = 24, tournament: int = 6, changes: float = 1.5, **options: Any):
        if not 1 <= tournament <= population:
            raise ValueError(f"tournament={tournament}: expected 1 to population={population}")
        self._population, self._tournament, self._changes = population, tournament, changes
        super().__init__(**options)

    def proposals(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        if len(rows) < self._population:
            return self.choices.random(CHILDREN, rng)
        if values.shape[1] == 1:
            rows, values = rows[-self._population :], values[-self._population :]
        rank = ranks(values)
        alive = np.argsort(rank)[: self._population]

        def parents() -> Points:
            """The winner (choices,) of a tournament for each child."""
            drawn = rng.choice(alive, (CHILDREN, self._tournament))
            return rows[drawn[np.arange(CHILDREN), rank[drawn].argmin(1)]]

        first = parents()
        children = np.where(rng.random((CHILDREN, 1)) < CROSSOVER, self.choices.crossed(first, parents(), rng), first)
        return self.choices.mutated(children, rng, self._changes)
