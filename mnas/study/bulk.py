"""Trials read from Optuna's tables by one plain query a table, equal choices as one object.

Optuna makes an object of SQLAlchemy for each parameter and parses its distribution twice; that takes ten times as long
and keeps all of these distributions, which counts where a study has thousands of trials.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

distribution_of = functools.lru_cache(maxsize=10_000)(json_to_distribution)
"""The distribution of a text in the database, one object for all trials that have it."""


def read_trials(
    session: Session, study_id: int, *, states: Collection[TrialState] | None = None,
    included: Collection[int] = (), after: int = -1,
) -> list[FrozenTrial]:  # fmt: skip
    """The trials of a study in these states, ordered by id: those whose id is above `after`, or among the `included`.
    """
    trial = models.TrialModel
    chosen = [trial.study_id == study_id]
    if after > -1:
        chosen.append(sqlalchemy.or_(trial.trial_id > after, trial.trial_id.in_(included)))
    if states is not None:
        chosen.append(trial.state.in_(states))

    def rows(model: type[Any], *columns: str) -> Iterator[Any]:
        """The trial's id and these columns of each row that belongs to a chosen trial, in the order of writing."""
        first = next(iter(model.__table__.primary_key))
        wanted = sqlalchemy.select(model.trial_id, *(getattr(model, column) for column in columns))
        for row in session.execute(wanted.join(trial).where(*chosen).order_by(first)):
            if row[0] in found:  # else it has begun since
                yield row

    trials: Iterable[Any] = session.scalars(sqlalchemy.select(trial).where(*chosen).order_by(trial.trial_id))
    found = {
        one.trial_id: FrozenTrial(
            number=one.number, state=one.state, value=None, datetime_start=one.datetime_start,
            datetime_complete=one.datetime_complete, params={}, distributions={}, user_attrs={}, system_attrs={},
            intermediate_values={}, trial_id=one.trial_id,
        )
        for one in trials
    }  # fmt: skip
    for number, name, stored, text in rows(models.TrialParamModel, "param_name", "param_value", "distribution_json"):
        distribution: BaseDistribution = distribution_of(text)
        found[number].distributions[sys.intern(name)] = distribution
        found[number].params[sys.intern(name)] = distribution.to_external_repr(stored)
    results: dict[int, dict[int, float]] = {}
    for number, objective, stored, kind in rows(models.TrialValueModel, "objective", "value", "value_type"):
        results.setdefault(number, {})[objective] = models.TrialValueModel.stored_repr_to_value(stored, kind)
    for number, values in results.items():
        found[number].values = [values[objective] for objective in sorted(values)]
    steps = models.TrialIntermediateValueModel
    for number, step, stored, kind in rows(steps, "step", "intermediate_value", "intermediate_value_type"):
        found[number].intermediate_values[step] = steps.stored_repr_to_intermediate_value(stored, kind)
    for number, key, text in rows(models.TrialUserAttributeModel, "key", "value_json"):
        found[number].user_attrs[sys.intern(key)] = json.loads(text)
    for number, key, text in rows(models.TrialSystemAttributeModel, "key", "value_json"):
        found[number].system_attrs[sys.intern(key)] = json.loads(text)
    return list(found.values())
