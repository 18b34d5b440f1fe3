"""Known costs and the budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from layered_study import milliseconds, studied

from mnas.samplers import EvolutionSampler, PredictorSampler
from mnas.samplers.choices import Choices
from mnas.samplers.costs import KnownCosts


def test_each_cost_is_computed_once() -> None:
    choices, computed = Choices(), list[dict[str, Any]]()
    choices.learn(studied(optuna.samplers.RandomSampler(seed=0), 40).trials)

    def known_cost(params: dict[str, Any]) -> float | None:
        computed.append(params)
        return {1: 2.0, 2: None, 3: math.inf}[params["depth"]]

    points, costs = choices.all(), KnownCosts(known_cost, 5.0)
    first, second = costs.of(points, choices), costs.of(points, choices)
    assert len(computed) == len(points)
    np.testing.assert_equal(first, second)
    depths = [choices.params(point)["depth"] for point in points]
    expected = {1: False, 2: False, 3: True}
    assert costs.over_budget(first).tolist() == [expected[depth] for depth in depths]
    costs.clear()
    costs.of(points[:1], choices)
    assert len(computed) == len(points) + 1


def test_without_a_known_cost_every_point_is_free() -> None:
    choices, costs = Choices(), KnownCosts(None, None)
    choices.learn(studied(optuna.samplers.RandomSampler(seed=0), 10).trials)
    assert not costs.exist
    assert not costs.of(choices.random(3, np.random.default_rng(0)), choices).any()


@pytest.mark.parametrize("budget", [0, -1.0])
def test_budgets_that_mean_nothing(budget: float) -> None:
    with pytest.raises(ValueError, match="budget="):
        PredictorSampler(known_cost=milliseconds, budget=budget)


def test_a_budget_needs_a_cost() -> None:
    with pytest.raises(ValueError, match="known_cost"):
        EvolutionSampler(budget=3.0)


def test_a_cost_that_is_no_number() -> None:
    with pytest.raises(TypeError, match="'dear'"):
        studied(PredictorSampler(seed=0, known_cost=lambda params: "dear", budget=1.0), 8)  # type: ignore[arg-type, return-value]
