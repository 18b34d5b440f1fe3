"""Trials read by plain queries are those that Optuna itself reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from postgresql import running_server

from mnas.study.database import PatientStorage, open_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PatientStorage]:
    if request.param == "sqlite":
        yield open_storage(f"sqlite:///{tmp_path}/study.db")
        return
    with running_server() as server:
        opened = open_storage(server.url)
        yield opened
        opened.close()


def filled(storage: PatientStorage) -> optuna.Study:
    """Two studies, of which one has trials in all states, with all kinds of values, choices and attributes."""
    study, other = (
        optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
        for name in ("one", "other")
    )
    distributions = {
        "wide": CategoricalDistribution((1.0, 0.5, "half", None, True)), "layers": IntDistribution(1, 9, step=2),
        "rate": FloatDistribution(1e-3, 1.0, log=True),
    }  # fmt: skip
    for number in range(12):
        params = {"wide": (1.0, 0.5, "half", None)[number % 4], "layers": 3, "rate": 0.125}
        for to, value in ((study, math.inf), (other, 0.25)):
            to.add_trial(create_trial(
                params=params, distributions=distributions, values=[number / 3, -value],
                intermediate_values={2: math.nan, 0: number / 7, 1: -math.inf},
                user_attrs={"name": f"number {number}"}, system_attrs={"kept": [0.5, None]},
            ))  # fmt: skip
    layers = IntDistribution(1, 9)
    for state in (TrialState.FAIL, TrialState.PRUNED):
        study.add_trial(create_trial(state=state, params={"layers": 7}, distributions={"layers": layers}))
    study.ask().suggest_int("layers", 1, 9)
    study.enqueue_trial({"layers": 5})
    return study


def shown(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Everything in trials, NaN as a text; parameters have an order, steps and attributes have none."""
    ordered = ("_params", "_distributions")
    return [
        {name: repr(sorted(value.items()) if isinstance(value, dict) and name not in ordered else value)
         for name, value in vars(trial).items()}
        for trial in trials
    ]  # fmt: skip


def test_bulk_is_as_optuna_reads(storage: PatientStorage) -> None:
    study = filled(storage)
    for states, included, after in (
        (None, set(), -1), ([TrialState.COMPLETE], set(), -1), (None, {2, 5}, 20), (None, set(), 24), (None, set(), 99),
        ([TrialState.WAITING, TrialState.RUNNING], {1}, 3),
    ):  # fmt: skip
        own = storage._get_trials(study._study_id, states, included, after)
        plain = RDBStorage._get_trials(storage, study._study_id, states, included, after)
        assert shown(own) == shown(plain)
    assert len(storage._get_trials(study._study_id, None, set(), -1)) == 16


def test_equal_distributions_are_one_object(storage: PatientStorage) -> None:
    first, *others = filled(storage).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for other in others:
        assert all(other.distributions[name] is each for name, each in first.distributions.items())
