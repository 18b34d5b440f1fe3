"""Choices and conditions learned from trials, and points among them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import optuna
import pytest
from layered_study import BOTH, MakeSampler, key, points, studied
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from mnas.samplers.choices import ABSENT, Choices, choice_of


def test_existence_is_learned() -> None:
    study = studied(optuna.samplers.RandomSampler(seed=0), 80)
    choices = Choices()
    choices.learn(study.trials)
    assert list(choices.by_name) == ["activation", "depth", "kernel0", "kernel1", "squeeze1", "kernel2", "squeeze2"]
    drawn = choices.random(300, np.random.default_rng(0))
    assert {key(choices.params(point)) for point in drawn} <= {key(params) for params in points()}
    changed = choices.mutated(drawn, np.random.default_rng(1))
    assert (changed != drawn).any(1).all()
    crossed = choices.crossed(drawn, changed, np.random.default_rng(2))
    for made in (changed, crossed):
        assert {key(choices.params(point)) for point in made} <= {key(params) for params in points()}
    assert (drawn == ABSENT).any()
    assert {key(choices.params(point)) for point in choices.all()} == {key(params) for params in points()}


def test_choices_of_distributions() -> None:
    kernel = choice_of(CategoricalDistribution([3, 5, 9]))
    assert kernel is not None and kernel.positions is not None
    assert kernel.positions.tolist() == [0, 1 / 3, 1]
    width = choice_of(IntDistribution(1, 64, log=True))
    assert width is not None and width.positions is not None
    assert width.positions[7] == pytest.approx(0.5)
    named = choice_of(CategoricalDistribution(["relu", "swish"]))
    assert named is not None and named.positions is None
    assert choice_of(FloatDistribution(0, 1)) is None


@pytest.mark.parametrize("make", BOTH)
def test_ranges_that_change(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0))

    def objective(trial: optuna.Trial) -> float:
        return abs(trial.suggest_int("width", 8, 16 * (1 + trial.number % 4)) - 40)

    study.optimize(objective, n_trials=40)
    assert study.best_value <= 1


@pytest.mark.parametrize("make", BOTH)
def test_values_outside_of_their_range(make: MakeSampler) -> None:
    """Enqueued ones, and single values of before: the range is what all trials had."""
    study = optuna.create_study(direction="maximize", sampler=make(seed=0))
    for depth in (99, 4):
        study.enqueue_trial({"depth": depth})

    def objective(trial: optuna.Trial) -> float:
        first = trial.number < 3
        n = trial.suggest_int("n", 5 if first else 1, 5 if first else 3)
        return n + trial.suggest_int("depth", 1, 21, step=5) + trial.suggest_int("wide", 0, 2**62) / 2**62

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna says of what was enqueued that it is out of range
        study.optimize(objective, n_trials=15)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert {trial.params["n"] for trial in study.trials[3:]} <= {1, 2, 3}


@pytest.mark.parametrize("make", BOTH)
def test_a_value_outside_of_the_range_that_no_finished_trial_has(make: MakeSampler) -> None:
    """Of a trial that failed, and of one that still runs elsewhere."""
    study = optuna.create_study(direction="maximize", sampler=make(seed=0))

    def objective(trial: optuna.Trial) -> float:
        if (n := trial.suggest_int("n", 1, 9)) > 9:
            raise RuntimeError("too many")
        return n

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna says of what was enqueued that it is out of range
        study.optimize(objective, n_trials=4)
        for number in (50, 70):
            study.enqueue_trial({"n": number})
        study.optimize(objective, n_trials=1, catch=(RuntimeError,))
        study.ask().suggest_int("n", 1, 9)
        study.optimize(objective, n_trials=8)
    assert [trial.params["n"] for trial in study.trials if trial.state == TrialState.FAIL] == [50]
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == 12


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("scale", [1e307, 1e-320])
def test_values_and_options_at_the_end_of_what_floats_hold(make: MakeSampler, scale: float) -> None:
    study = optuna.create_study(direction="maximize", sampler=make(seed=0))

    def objective(trial: optuna.Trial) -> float:
        option = trial.suggest_categorical("a", [math.nan, math.inf, 1.0, 2.0])
        return scale * (trial.suggest_int("d", 1, 6) + (option == 2.0))

    study.optimize(objective, n_trials=12)
    assert len(study.trials) == 12
