"""Which choices of a space decided the accuracy of a search's candidates (fANOVA, by Optuna)."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from mnas.architecture import Architecture
from mnas.space import SearchSpace
from mnas.trial import Trial

LEAST = 10
"""Of fewer finished trials nothing is said."""
MOST_TREES, ROWS = 64, 4000
"""Optuna's own number of trees, or as many as make so many rows of them: that takes about a second."""


def importance(space: SearchSpace, trials: Sequence[Trial], seed: int) -> dict[str, float]:
    """Each choice's share of the differences in accuracy, greatest first, 1 in all; empty where too little is known.

    fANOVA takes only what every network has, and a layer's choices exist at some depths alone: see `features`.
    """
    complete = [trial for trial in trials if trial.state == "complete" and trial.accuracy is not None]
    if len(complete) < LEAST or len({trial.accuracy for trial in complete}) == 1:
        return {}
    rows = [features(space, trial.architecture) for trial in complete]
    ranges: dict[str, BaseDistribution] = {}
    for name in sorted({name for row in rows for name in row}):
        values = [row.get(name, 0.0) for row in rows]
        if min(values) < max(values):
            ranges[name] = FloatDistribution(min(values), max(values))
    if not ranges:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize")
        study.add_trials([
            create_trial(
                params={name: row.get(name, 0.0) for name in ranges}, distributions=ranges, value=trial.accuracy
            )
            for row, trial in zip(rows, complete, strict=True)
        ])  # fmt: skip
        trees = min(MOST_TREES, max(1, ROWS // len(rows)))
        try:
            shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=seed))
        except RuntimeError:  # no tree tells the candidates apart
            return {}
    return {name: float(share) for name, share in shares.items()}


def features(space: SearchSpace, arch: Architecture) -> dict[str, float]:
    """A network's choices as numbers by stage, of its layers the mean; words count by their place in the space's list.

    What a stage's layers have no choice of is left out, and means 0.
    """
    found: dict[str, list[float]] = {}
    for name, option in space.encode(arch).items():
        stage, *layer = name.partition("[")[0].split(".")
        place = ".".join([stage, *layer[-1:]])
        if isinstance(option, str):
            options = getattr(space.file.stages[int(stage.removeprefix("stage")) - 1], layer[-1])
            option = options.index(option)
        found.setdefault(place, []).append(float(option))
    return {name: statistics.fmean(values) for name, values in found.items()}
