"""Costs of points that are known before an evaluation, and the budget for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.samplers.choices import Choices, Points

Cost = Callable[[dict[str, Any]], float | None]
"""The cost of parameters; None where it is not known."""
Floats = NDArray[np.float64]


class KnownCosts:
    """The known cost of each point, computed once, and the budget."""

    def __init__(self, known_cost: Cost | None, budget: float | None):
        if budget is not None and (known_cost is None or not budget > 0):
            raise ValueError(f"budget={budget}: expected a number above zero, together with known_cost")
        self.budget = math.inf if budget is None else budget
        self._known_cost = known_cost
        self._cache: dict[bytes, float] = {}

    @property
    def exist(self) -> bool:
        """Whether there is a known cost."""
        return self._known_cost is not None

    def clear(self) -> None:
        """Forget the costs of all points, as points of other choices are not comparable."""
        self._cache = {}

    def of(self, points: Points, choices: Choices) -> Floats:
        """The cost of each point (n,), NaN where it is not known; 0 without a known cost."""
        if self._known_cost is None:
            return np.zeros(len(points))
        keys = [point.tobytes() for point in points]
        for key, point in zip(keys, points, strict=True):
            if key not in self._cache:
                self._cache[key] = _cost(self._known_cost, choices.params(point))
        return np.array([self._cache[key] for key in keys])

    def over_budget(self, costs: Floats) -> NDArray[np.bool_]:
        """Mask (n,) of the costs that are known to be over the budget; infinity always is."""
        return (costs > self.budget) | np.isposinf(costs)


def _cost(known_cost: Cost, params: dict[str, Any]) -> float:
    try:
        cost = known_cost(params)
    except KeyError:  # a choice that no trial has had yet
        cost = None
    if cost is not None and not isinstance(cost, int | float | np.number):
        raise TypeError(f"known_cost of {params}: expected a number or None, got {cost!r}")
    return math.nan if cost is None else float(cost)
