"""The contract of mnas's samplers in plain Optuna studies."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import optuna
import pytest
from layered_study import BOTH, MakeSampler, accuracy, key, milliseconds, network, points, studied
from optuna.trial import TrialState

from mnas.samplers import PredictorSampler


@pytest.mark.parametrize("make", BOTH)
def test_nothing_twice_while_something_is_new(make: MakeSampler) -> None:
    study = studied(make(seed=0), len(points()))
    tried = {key(trial.params) for trial in study.trials}
    # before a choice was seen, it can only be drawn at random
    assert len(tried) >= len(points()) - 3
    assert tried <= {key(params) for params in points()}


@pytest.mark.parametrize("make", BOTH)
def test_budget(make: MakeSampler) -> None:
    """Whatever is affordable is tried, nothing else, once the choices are known."""
    budget = float(np.quantile([milliseconds(params) for params in points()], 0.2))
    affordable = {key(params) for params in points() if milliseconds(params) <= budget}
    study = studied(make(seed=0, known_cost=milliseconds, budget=budget), len(affordable) + 12)
    tried = [key(trial.params) for trial in study.trials]
    assert affordable <= set(tried)
    last = max(number for number, one in enumerate(tried) if one in affordable)
    assert sum(one not in affordable for one in tried[: last + 1]) <= 12  # choices not yet seen


@pytest.mark.parametrize("make", BOTH)
def test_the_same_again_and_after_a_resume(make: MakeSampler) -> None:
    def run(sampler: optuna.samplers.BaseSampler, study: optuna.Study, trials: int) -> None:
        study.sampler = sampler
        study.optimize(lambda trial: accuracy(network(trial)), n_trials=trials)

    options: dict[str, Any] = {"known_cost": milliseconds, "budget": 4.0}
    unbroken, broken = (optuna.create_study(direction="maximize", study_name="one") for _ in range(2))
    run(make(seed=5, **options), unbroken, 24)
    for trials in (9, 1, 14):
        run(make(seed=5, **options), broken, trials)
    other = optuna.create_study(direction="maximize", study_name="one")
    run(make(seed=6, **options), other, 24)
    assert [trial.params for trial in broken.trials] == [trial.params for trial in unbroken.trials]
    assert [trial.params for trial in other.trials] != [trial.params for trial in unbroken.trials]


@pytest.mark.parametrize("make", BOTH)
def test_a_batch_holds_no_point_twice(make: MakeSampler) -> None:
    study = studied(make(seed=1), 30)
    asked = [study.ask() for _ in range(8)]
    batch = [key(network(trial)) for trial in asked]
    assert len(set(batch)) == 8
    assert not set(batch) & {key(trial.params) for trial in study.get_trials(states=(TrialState.COMPLETE,))}


@pytest.mark.parametrize("make", BOTH)
def test_failed_pruned_and_useless_trials(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0), direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        params = network(trial)
        match trial.number % 5:
            case 0:
                raise ValueError("out of memory")
            case 1:
                return math.nan
            case 2:
                trial.report(accuracy(params) / 2, 1)
                raise optuna.TrialPruned
            case 3 if trial.number % 2:
                raise optuna.TrialPruned
        return math.inf if trial.number == 14 else accuracy(params)

    study.optimize(objective, n_trials=60, catch=(ValueError,))
    tried = [key(trial.params) for trial in study.trials]
    assert len(set(tried[5:])) == len(tried[5:]), "what failed is not tried again"


@pytest.mark.parametrize("make", BOTH)
def test_workers_share_a_study(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0, known_cost=milliseconds, budget=5.0), direction="maximize")
    study.optimize(lambda trial: accuracy(network(trial)), n_trials=40, n_jobs=4)
    assert len(study.trials) == 40
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


@pytest.mark.parametrize("make", BOTH)
def test_one_sampler_for_two_studies_and_pickled(make: MakeSampler) -> None:
    sampler = make(seed=0)
    first = studied(sampler, 12)
    other = optuna.create_study(sampler=sampler, direction="minimize")
    other.optimize(lambda trial: trial.suggest_int("other", 1, 40), n_trials=12)
    assert {"other"} == {name for trial in other.trials for name in trial.params}
    copied = pickle.loads(pickle.dumps(sampler))
    first.sampler = copied
    first.optimize(lambda trial: accuracy(network(trial)), n_trials=3)
    assert len(first.trials) == 15


@pytest.mark.parametrize("make", BOTH)
def test_a_copy_works_on_another_study_with_costs_of_its_own(make: MakeSampler) -> None:
    sampler = make(seed=0, known_cost=lambda params: next(iter(params.values())), budget=20)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(lambda trial: trial.suggest_int("width", 1, 40), n_trials=8)
    other = optuna.create_study(sampler=copy.copy(sampler), direction="maximize")
    other.optimize(lambda trial: 100 * trial.suggest_int("height", 101, 140), n_trials=8)
    study.optimize(lambda trial: trial.suggest_int("width", 1, 40), n_trials=8)
    tried = [trial.params["width"] for trial in study.trials]
    assert set(tried[8:]) <= set(range(1, 21)) - set(tried[:8]), "new and within the budget"


@pytest.mark.parametrize("make", BOTH)
def test_other_parameters_are_drawn_at_random(make: MakeSampler) -> None:
    study = optuna.create_study(sampler=make(seed=0, known_cost=lambda params: params["width"], budget=100))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-3, 1.0, log=True)
        assert trial.suggest_categorical("only", ["this"]) == "this"
        return abs(trial.suggest_int("width", 8, 512, step=8) - 96) + rate

    study.optimize(objective, n_trials=30)
    assert len({trial.params["rate"] for trial in study.trials}) == 30
    assert {trial.params["width"] for trial in study.trials} >= set(range(8, 100, 8)), "then some of them again"
    assert sum(trial.params["width"] > 100 for trial in study.trials) <= 1, "the first is drawn before all is known"
    assert study.best_trial.params["width"] == 96


def test_a_seed_is_no_less_than_zero() -> None:
    with pytest.raises(ValueError, match="seed=-1"):
        PredictorSampler(seed=-1)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_better_than_random(make: MakeSampler, direction: str) -> None:
    """Of 294 points, in 50 trials, over five seeds."""
    sign = 1 if direction == "maximize" else -1

    def reached(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler, direction="maximize" if sign > 0 else "minimize")
        study.optimize(lambda trial: sign * accuracy(network(trial)), n_trials=50)
        return sign * study.best_value

    mine = np.mean([reached(make(seed=seed)) for seed in range(5)])
    random = np.mean([reached(optuna.samplers.RandomSampler(seed=seed)) for seed in range(5)])
    best = max(accuracy(params) for params in points())
    assert best - mine < (best - random) * (0.2 if make is PredictorSampler else 0.9)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("cost", [100.0, math.inf, 1e308])
def test_a_budget_that_nothing_keeps(make: MakeSampler, cost: float) -> None:
    """A sampler cannot refuse: it goes on."""
    study = studied(make(seed=0, known_cost=lambda params: cost, budget=1.0), 8)
    assert len(study.trials) == 8


@pytest.mark.parametrize("make", BOTH)
def test_a_second_study_of_the_same_name_is_another_one(make: MakeSampler) -> None:
    """As every search without a storage has it: its trials are not those of the first."""
    sampler, found = make(seed=0, known_cost=milliseconds, budget=4.0), []
    for used in (sampler, sampler, make(seed=0, known_cost=milliseconds, budget=4.0)):
        study = optuna.create_study(direction="maximize", study_name="one", sampler=used)
        if not found:  # the first one sees other choices
            study.enqueue_trial({"depth": 1})
        study.optimize(lambda trial: accuracy(network(trial)), n_trials=14)
        found.append([trial.params for trial in study.trials])
    assert found[1] == found[2]
