"""What a search found beside its winners: the front, what decided the accuracy, how far chance would have come."""

from __future__ import annotations

import logging
import math
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from mnas.config import RunConfig
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.study.objective import front, is_pareto, knee
from mnas.study.trial import Trial

log = logging.getLogger("mnas")





SHOWN = 5
"""Choices that the log names."""


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """Finished trials that no other beats in accuracy and latency, from fast to slow."""
    complete = {(t.accuracy or 0.0, t.latency_ms): t for t in reversed(trials) if t.state == "complete"}
    return [complete[point] for point in front(complete)]


def front_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The front as metrics.json holds it, its knee marked."""
    best = front_of(trials)
    points = [(trial.accuracy or 0.0, trial.latency_ms) for trial in best]
    return [
        {"trial": trial.number, "accuracy": point[0], "latency_ms": point[1], "knee": point == knee(points)}
        for trial, point in zip(best, points, strict=True)
    ]


class Findings:
    """Of a search's trials, and of the random ones that it is compared with; the log tells them as they are found."""

    def __init__(self, config: RunConfig, space: SearchSpace, trials: Sequence[Trial], drawn: Sequence[Trial]):
        self._each: dict[str, Any] = {"importance": importance(space, trials, config.seed)}
        if is_pareto(config.objective):
            self._each["front"] = front_rows(trials)
        budgets = config.wanted_ms if config.compare_random else ()
        self._random = {budget_ms: compared(trials, drawn, budget_ms) for budget_ms in budgets}
        self._log()

    def of(self, budget_ms: float | None) -> dict[str, Any]:
        """What metrics.json says in the folder of this budget's winner."""
        random = {"random": self._random[budget_ms]} if self._random else {}
        return self._each | random

    def _log(self) -> None:
        for row in self._each.get("front", []):
            log.info(
                "front: trial %d, %.2f%%, %.2f ms%s", row["trial"], 100 * row["accuracy"], row["latency_ms"],
                " (knee)" * row["knee"],
            )  # fmt: skip
        shares = list(self._each["importance"].items())[:SHOWN]
        if shares:
            log.info("what decided the accuracy: %s", ", ".join(f"{name} {share:.0%}" for name, share in shares))
        for budget_ms, found in self._random.items():
            reached = [found[f"{prefix}best_accuracy"] for prefix in ("search_", "")]
            log.info(
                "best%s after %d evaluations: %s by the search, %s at random%s",
                "" if budget_ms is None else f" within {budget_ms:g} ms", found["trials"], *map(_percent, reached),
                "; this search was no better than chance" if (reached[0] or 0) <= (reached[1] or 0) else "",
            )  # fmt: skip


def _percent(part: float | None) -> str:
    return "none" if part is None else f"{part:.2%}"


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


class Best:
    """The most accurate finished candidate within a budget so far."""

    def __init__(self, budget_ms: float | None):
        self.trial: Trial | None = None
        self.curve: list[float | None] = []
        """Its accuracy after each evaluation; None while there is none."""
        self._limit_ms = math.inf if budget_ms is None else budget_ms

    def add(self, trial: Trial) -> None:
        able = trial.state == "complete" and trial.latency_ms <= self._limit_ms
        if able and (self.trial is None or (trial.accuracy or 0) > (self.trial.accuracy or 0)):
            self.trial = trial
        self.curve.append(None if self.trial is None else self.trial.accuracy)


def compared(searched: Sequence[Trial], drawn: Sequence[Trial], budget_ms: float | None) -> dict[str, Any]:
    """Both searches' best within a budget, after as many evaluations as both have."""
    evaluated = [trial for trial in searched if trial.evaluated]
    count = min(len(evaluated), len(drawn))
    found: dict[str, Any] = {"trials": count}
    for prefix, trials in (("", drawn), ("search_", evaluated)):
        best = Best(budget_ms)
        for trial in trials[:count]:
            best.add(trial)
        found[f"{prefix}best_accuracy"] = None if best.trial is None else best.trial.accuracy
        found[f"{prefix}best_latency_ms"] = None if best.trial is None else best.trial.latency_ms
        found[f"{prefix}curve"] = best.curve
    return found
