"""The predictor sampler: better than random, within a budget, for several objectives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from layered_study import BOTH, KERNELS, MakeSampler, accuracy, milliseconds, network, studied

from mnas.samplers import PredictorSampler


def test_all_fail() -> None:
    study = optuna.create_study(sampler=PredictorSampler(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        network(trial)
        raise ValueError

    study.optimize(objective, n_trials=12, catch=(ValueError,))
    assert len(study.trials) == 12


def test_the_cost_may_be_unknown() -> None:
    """None is no promise and no ban."""
    study = studied(PredictorSampler(seed=0, known_cost=lambda params: None, budget=1.0), 30)
    assert study.best_value > 85


def test_a_space_too_large_to_enumerate() -> None:
    """The best of 118,098 points, whose cost is a product of a sum, nearly found; few are ever asked what they cost."""
    asked = 0

    def cost(params: dict[str, Any]) -> float:
        nonlocal asked
        asked += 1
        layers = sum(params[f"kernel{i}"] ** 1.2 * (1 + params["width"]) for i in range(9))
        return float(params["resolution"] ** 2 * layers)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("resolution", [16, 24, 32])
        trial.suggest_int("width", 1, 2)
        for i in range(9):
            trial.suggest_categorical(f"kernel{i}", KERNELS)
        return math.log(cost(trial.params)) + 0.05 * sum(trial.params[f"kernel{i}"] == 5 for i in range(9))

    budget = 60_000.0
    sampler = PredictorSampler(known_cost=cost, budget=budget, seed=0)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=40)
    within = [trial for trial in study.trials if cost(trial.params) <= budget]
    assert len(within) > 37
    best = max(
        math.log(cost) + 0.05 * fives
        for fives in range(10) for sevens in range(10 - fives) for size in (16, 24, 32) for width in (2, 3)
        if (cost := size**2 * width * ((9 - fives - sevens) * 3**1.2 + fives * 5**1.2 + sevens * 7**1.2)) <= budget
    )  # fmt: skip
    assert max(trial.value or 0 for trial in within) > best - 0.01
    assert asked < 40 * 200


@pytest.mark.parametrize("make", BOTH)
def test_front_of_two_objectives(make: MakeSampler) -> None:
    """The known cost is an objective too; more of the hypervolume is found than at random."""

    def volume(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            params = network(trial)
            return accuracy(params), milliseconds(params)

        study.optimize(objective, n_trials=40)
        front = sorted({tuple(trial.values) for trial in study.best_trials}, key=lambda values: values[1])
        ends = [ms for _, ms in front[1:]] + [12.0]
        return sum((value - 80) * (end - ms) for (value, ms), end in zip(front, ends, strict=True))

    mine = np.mean([volume(make(seed=seed, known_cost=milliseconds)) for seed in range(3)])
    assert mine > np.mean([volume(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3)])


def test_three_objectives() -> None:
    study = optuna.create_study(sampler=PredictorSampler(seed=0), directions=["maximize", "minimize", "minimize"])

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        params = network(trial)
        return accuracy(params), milliseconds(params), float(params["depth"])

    study.optimize(objective, n_trials=12)
    assert len(study.best_trials) >= 3
