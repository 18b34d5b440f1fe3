"""Analysis of a finished search: the Pareto front, the choices that decide the accuracy, a comparison with chance."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import create_trial

from mnas.config import RunConfig
from mnas.io.size import pixels
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.space.walk import plain_name
from mnas.study.objective import front, is_pareto, knee
from mnas.study.optuna_log import experimental_features, quiet_optuna
from mnas.study.trial import Trial

log = logging.getLogger("mnas")

LOGGED_CHOICES = 5
"""Most important choices that the log names."""
MIN_TRIALS = 10
"""Fewer finished trials give no importances."""
MAX_TREES, TREE_ROWS = 64, 4000
"""Optuna's own number of trees, or fewer, so that all of them have this many rows: that takes about a second."""


@dataclass(frozen=True)
class SearchAnalysis:
    """What the trials of a search show, as metrics.json holds it."""

    importance: Mapping[str, float]
    """Each choice's part of the variance in accuracy, largest first."""
    front: Sequence[Mapping[str, Any]] | None = None
    """The rows of the Pareto front; None where a single reward was maximised."""
    random: Mapping[float | None, Mapping[str, Any]] | None = None
    """The comparison with random search within each budget; None where none was made."""

    alike: Mapping[float | None, int] = field(default_factory=dict)
    """For each budget, how many of the best candidates cannot be told apart by their estimates."""

    def metrics(self, budget_ms: float | None) -> dict[str, Any]:
        """The part of metrics.json in the folder of this budget's winner."""
        metrics: dict[str, Any] = {"importance": self.importance}
        if budget_ms in self.alike:
            metrics["alike"] = self.alike[budget_ms]
        if self.front is not None:
            metrics["front"] = self.front
        if self.random is not None:
            metrics["random"] = self.random[budget_ms]
        return metrics


def analyse(
    config: RunConfig, space: SearchSpace, trials: Sequence[Trial], random_trials: Sequence[Trial] = ()
) -> SearchAnalysis:
    """The analysis of a finished search and, with --compare-random, of the random networks beside it; also logged."""
    analysis = SearchAnalysis(
        importance(space, trials, config.seed),
        front_rows(trials) if is_pareto(config.objective) else None,
        {ms: compare(trials, random_trials, ms) for ms in config.wanted_ms} if config.compare_random else None,
        {ms: alike for ms in config.wanted_ms if (alike := indistinguishable(trials, ms)) is not None},
    )
    _log(analysis)
    return analysis


def _log(analysis: SearchAnalysis) -> None:
    for budget_ms, count in analysis.alike.items():
        if count > 1:
            log.info(
                "the first %d candidates%s cannot be told apart by their estimates", count,
                "" if budget_ms is None else f" within {budget_ms:g} ms",
            )  # fmt: skip
    for row in analysis.front or ():
        log.info(
            "front: trial %d, %.2f%%, %.2f ms%s", row["trial"], 100 * row["accuracy"], row["latency_ms"],
            " (knee)" * row["knee"],
        )  # fmt: skip
    if analysis.importance:
        largest = list(analysis.importance.items())[:LOGGED_CHOICES]
        shown = ", ".join(f"{name} {part:.0%}" for name, part in largest)
        log.info("choices with the greatest effect on the estimates: %s", shown)
    for budget_ms, comparison in (analysis.random or {}).items():
        searched, random = comparison["search_best_accuracy"], comparison["best_accuracy"]
        log.info(
            "best accuracy%s after %d evaluations: search %s, random %s%s",
            "" if budget_ms is None else f" within {budget_ms:g} ms", comparison["trials"], _percent(searched),
            _percent(random), "; the search was no better than chance" if (searched or 0) <= (random or 0) else "",
        )  # fmt: skip


def _percent(accuracy: float | None) -> str:
    return "none" if accuracy is None else f"{accuracy:.2%}"


# --- the front


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """The finished trials that no other trial dominates in accuracy and latency, from fast to slow."""
    complete = {(trial.accuracy or 0.0, trial.latency_ms): trial for trial in reversed(trials) if _is_complete(trial)}
    return [complete[point] for point in front(complete)]


def front_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The front as rows of metrics.json, its knee marked."""
    best = front_of(trials)
    points = [(trial.accuracy or 0.0, trial.latency_ms) for trial in best]
    return [
        {"trial": trial.number, "accuracy": point[0], "latency_ms": point[1], "knee": point == knee(points)}
        for trial, point in zip(best, points, strict=True)
    ]


# --- the choices that decide


@quiet_optuna()
def importance(space: SearchSpace, trials: Sequence[Trial], seed: int) -> dict[str, float]:
    """Each choice's part (0..1) of the variance in accuracy, largest first, by fANOVA (Hutter et al. 2014).

    Empty for fewer than MIN_TRIALS finished trials, and where their accuracies or choices do not differ. fANOVA takes
    only parameters that all networks have, so the choices of a stage's layers are summarised: see `features`.
    """
    complete = [trial for trial in trials if _is_complete(trial) and trial.accuracy is not None]
    if len(complete) < MIN_TRIALS or len({trial.accuracy for trial in complete}) == 1:
        return {}
    rows = [features(space, trial.architecture) for trial in complete]
    ranges: dict[str, BaseDistribution] = {}
    for name in sorted({name for row in rows for name in row}):
        values = [row.get(name, 0.0) for row in rows]
        if min(values) < max(values):
            ranges[name] = FloatDistribution(min(values), max(values))
    if not ranges:
        return {}
    # imports scikit-learn, which takes a second
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    study = optuna.create_study(direction="maximize")
    study.add_trials([
        create_trial(params={name: row.get(name, 0.0) for name in ranges}, distributions=ranges, value=trial.accuracy)
        for row, trial in zip(rows, complete, strict=True)
    ])  # fmt: skip
    trees = min(MAX_TREES, max(1, TREE_ROWS // len(rows)))
    with experimental_features():
        try:
            parts = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=seed))
        except RuntimeError:  # no tree tells the candidates apart
            return {}
    return {name: float(part) for name, part in parts.items()}


def features(space: SearchSpace, arch: Architecture) -> dict[str, float]:
    """A network's choices as numbers: for each stage, the mean of its layers; a word is its index in the space's list.

    The resolution is the side of a square of as many pixels.

    Choices that a stage does not have are left out.
    """
    values: dict[str, list[float]] = {}
    for name, option in space.encode(arch).items():
        stage, *layer = plain_name(name).split(".")
        if stage == "resolution":
            option = math.sqrt(pixels(arch.resolution))
        elif isinstance(option, str):
            options = getattr(space.file.stages[int(stage.removeprefix("stage")) - 1], layer[-1])
            option = options.index(option)
        values.setdefault(".".join([stage, *layer[-1:]]), []).append(float(option))
    return {name: statistics.fmean(numbers) for name, numbers in values.items()}


# --- the comparison with random search


def compare(trials: Sequence[Trial], random_trials: Sequence[Trial], budget_ms: float | None) -> dict[str, Any]:
    """The best accuracy within a budget of the search and of random search, after equally many evaluations."""
    evaluated = [trial for trial in trials if trial.evaluated]
    count = min(len(evaluated), len(random_trials))
    comparison: dict[str, Any] = {"trials": count}
    for prefix, counted in (("", random_trials[:count]), ("search_", evaluated[:count])):
        curve = best_so_far(counted, budget_ms)
        best = curve[-1] if curve else None
        comparison[f"{prefix}best_accuracy"] = None if best is None else best.accuracy
        comparison[f"{prefix}best_latency_ms"] = None if best is None else best.latency_ms
        comparison[f"{prefix}curve"] = [None if trial is None else trial.accuracy for trial in curve]
    return comparison


def best_so_far(trials: Sequence[Trial], budget_ms: float | None) -> list[Trial | None]:
    """After each trial, the most accurate finished one within the budget; None while there is none."""
    curve: list[Trial | None] = []
    best: Trial | None = None
    for trial in trials:
        fits = _is_complete(trial) and trial.latency_ms <= (math.inf if budget_ms is None else budget_ms)
        if fits and (best is None or (trial.accuracy or 0) > (best.accuracy or 0)):
            best = trial
        curve.append(best)
    return curve


def indistinguishable(trials: Sequence[Trial], budget_ms: float | None) -> int | None:
    """How many of the finished trials within a budget are within the noise of the best: by the number of images, 95%.

    None where that number is not known, or none is finished.
    """
    fits = [trial for trial in trials if _is_complete(trial) and trial.latency_ms <= (budget_ms or math.inf)]
    best = max(fits, key=lambda trial: trial.accuracy or 0.0, default=None)
    if best is None or best.accuracy is None or best.spread is None:
        return None
    return sum(
        best.accuracy - trial.accuracy <= math.hypot(best.spread, trial.spread)
        for trial in fits if trial.accuracy is not None and trial.spread is not None
    )  # fmt: skip


def _is_complete(trial: Trial) -> bool:
    return trial.state == "complete"
