"""A sampler that breeds: regularised evolution for one objective, NSGA-II for several."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.study import Study

from mnas.samplers.base import ChoiceSampler, Floats
from mnas.samplers.choices import Points
from mnas.samplers.pareto import ranks

CHILDREN = 32
"""Bred at a time, of which the first that is new and within the budget is proposed."""
CROSSED = 0.5
"""Part of the children that have two parents."""


class EvolutionSampler(ChoiceSampler):
    """Children of what did best, within a known cost.

    One objective: regularised evolution (arXiv 1802.01548), the youngest `population` trials compete and the best of
    `tournament` drawn ones is a parent. Several: NSGA-II (Deb et al. 2002), the best `population` of all by front and
    crowding. A child mutates its parent in about `changes` choices, half of them after it took choices that both
    parents have from a second one. The first `population` trials are random.
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
        place = ranks(values)
        alive = np.argsort(place)[: self._population]

        def parents() -> Points:
            drawn = rng.choice(alive, (CHILDREN, self._tournament))
            return rows[drawn[np.arange(CHILDREN), place[drawn].argmin(1)]]

        one = parents()
        children = np.where(rng.random((CHILDREN, 1)) < CROSSED, self.choices.crossed(one, parents(), rng), one)
        return self.choices.mutated(children, rng, self._changes)
