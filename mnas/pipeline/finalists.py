"""Finalists: the best candidates of a search, measured on the device as whole networks, and the one chosen of them."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnas.config import Objective, Recipe
from mnas.errors import Infeasible
from mnas.estimators import make_estimate, never
from mnas.estimators.supernet import FINE_TUNED
from mnas.estimators.weight_sharing import WeightSharing
from mnas.latency.model import PREDICTED, Measure, keeps
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.context import Context
from mnas.space.architecture import Architecture
from mnas.study.objective import knee, prefers_faster, ranking_key
from mnas.study.trial import Trial
from mnas.training.trainer import Trained

log = logging.getLogger("mnas")

MAX_RATIO = 1.5
"""Measured and predicted latencies that differ by a larger factor were not taken under the same conditions."""


Ranking = Callable[[float, float], tuple[float, float]]
"""(accuracy 0..1, latency in ms) -> a sort key; the largest is the best."""


def ranking(objective: Objective, budget_ms: float) -> Ranking:
    """The order of networks within a budget, by the objective."""
    return lambda accuracy, latency_ms: ranking_key(objective, accuracy, latency_ms, budget_ms)


@dataclass(frozen=True)
class Finalist:
    """A candidate with its latency as a whole network."""

    trial: Trial
    latency: Measurement


def choose(
    context: Context, trials: Sequence[Trial], sharing: WeightSharing | None, finetune: Recipe | None
) -> list[Trial | None]:
    """The candidate to hand over for each budget; None where no candidate keeps it.

    Choices are kept in the run's state, since another measurement might choose another candidate. Raises Infeasible if
    no budget is kept.
    """
    budgets, by_number = context.config.wanted_ms, {trial.number: trial for trial in trials}
    numbers = [*context.run.state().winner_trials, *[None] * len(budgets)][: len(budgets)]
    missed: Infeasible | None = None
    for index, budget_ms in enumerate(budgets):
        if numbers[index] in by_number:
            continue
        try:
            numbers[index] = _choose(context, trials, budget_ms, sharing, finetune).number
        except Infeasible as error:
            missed = error
            if context.config.budgets_ms:
                log.warning("%s", error)
        context.run.update_state(winner_trials=tuple(numbers))
    chosen = [by_number.get(number) if number is not None else None for number in numbers]
    if missed is not None and not any(chosen):
        raise missed
    return chosen


def _choose(
    context: Context, trials: Sequence[Trial], budget_ms: float | None, sharing: WeightSharing | None,
    finetune: Recipe | None,
) -> Trial:  # fmt: skip
    config = context.config
    complete = [trial for trial in trials if trial.state == "complete"]
    if budget_ms is not None and config.budgets_ms:
        log.info("finalists for %g ms:", budget_ms)
        complete = [trial for trial in complete if trial.latency_ms <= budget_ms * config.objective.evaluate_up_to]
    if not complete:
        within = "" if budget_ms is None else f" within {budget_ms:g} ms"
        raise Infeasible(
            f"no candidate was finished{within}; a new run with more --trials or a longer --budget may find one"
        )
    if budget_ms is None:
        point = knee((trial.accuracy or 0, trial.latency_ms) for trial in complete)
        return next(trial for trial in complete if (trial.accuracy, trial.latency_ms) == point)
    rank = ranking(config.objective, budget_ms)
    finalists = measured_finalists(complete, context.latency.measure, rank, budget_ms, config.finalists)
    if sharing is not None and finetune is not None:
        finalists = fine_tuned_again(finalists, sharing, finetune, rank)
    return finalists[0].trial


def measured_finalists(
    trials: Sequence[Trial], measure: Measure, rank: Ranking, budget_ms: float, at_once: int
) -> list[Finalist]:
    """Those of the finished `trials` whose measured latency keeps the budget, best first.

    They are measured `at_once` at a time, best first by the search's own figures, until some of them keep the budget.
    Raises Infeasible if none does.
    """
    ranked = sorted(trials, key=lambda trial: rank(trial.accuracy or 0.0, trial.latency_ms), reverse=True)
    closest_ms = math.inf
    for start in range(0, len(ranked), at_once):
        group = ranked[start : start + at_once]
        latencies = measure([trial.architecture for trial in group])
        finalists = [Finalist(trial, latency) for trial, latency in zip(group, latencies, strict=True)]
        _log_measured(finalists, budget_ms)
        kept = [finalist for finalist in finalists if _keeps(finalist.latency, budget_ms)]
        if kept:
            return sorted(kept, key=lambda one: rank(one.trial.accuracy or 0.0, one.latency.median_ms), reverse=True)
        closest_ms = min(closest_ms, *(latency.median_ms for latency in latencies))
    raise Infeasible(
        f"no candidate keeps {budget_ms:g} ms as a whole network, with its uncertainty (the fastest takes "
        f"{closest_ms:.2f} ms); if the machine was busy, mnas resume measures again; otherwise a new run with more "
        "--trials, a longer --budget or a larger --latency-ms may find one"
    )


def fine_tuned_again(
    finalists: Sequence[Finalist], sharing: WeightSharing, finetune: Recipe, rank: Ranking
) -> list[Finalist]:
    """The finalists, best first by the mean of two fine-tunings from inherited weights.

    The best of many noisy estimates owes part of its lead to chance; a second, independent one reduces that part. Where
    the first estimate is not a fine-tuning, the second one counts alone. A single finalist is not trained.
    """
    if len(finalists) < 2:
        return list(finalists)
    estimator = sharing.estimator(finetune, repeat=1)
    keys = {}
    for finalist in finalists:
        trial = finalist.trial
        second = make_estimate(estimator, trial.architecture, never).accuracy or 0.0
        both = [second, trial.accuracy or 0.0] if trial.fidelity == FINE_TUNED else [second]
        mean = statistics.fmean(both)
        keys[trial.number] = rank(mean, finalist.latency.median_ms)
        log.info(
            "finalist: trial %d, %s (%s), second fine-tuning %.2f%%, mean %.2f%%", trial.number, trial.summary,
            trial.fidelity, 100 * second, 100 * mean,
        )  # fmt: skip
    return sorted(finalists, key=lambda finalist: keys[finalist.trial.number], reverse=True)


def best_trained(context: Context, trained: Sequence[Trained], budget_ms: float | None) -> Trained:
    """The best by full training and the objective: the chosen network (the first), or another within the budget.

    The short estimates may have ranked a reference network too low. Others count if the search could have found them:
    they lie in the space and keep the constraints.
    """
    if budget_ms is None:
        return trained[0]

    def eligible(arch: Architecture) -> bool:
        return arch in context.space and context.constraints.satisfied_by(arch)

    objective = context.config.objective
    rivals = [other for other in trained[1:] if eligible(other.architecture)]
    if not prefers_faster(objective):
        rivals = [rival for rival in rivals if rival.val_accuracy > trained[0].val_accuracy]
    return _best_within(trained[0], rivals, context.latency.measure, ranking(objective, budget_ms), budget_ms)


def _best_within(
    chosen: Trained, rivals: Sequence[Trained], measure: Measure, rank: Ranking, budget_ms: float
) -> Trained:
    if not rivals:
        return chosen
    latencies = measure([network.architecture for network in (chosen, *rivals)])
    contenders = [(chosen, latencies[0].median_ms)] + [
        (rival, latency.median_ms) for rival, latency in zip(rivals, latencies[1:], strict=True)
        if _keeps(latency, budget_ms)
    ]  # fmt: skip
    return max(contenders, key=lambda contender: rank(contender[0].val_accuracy, contender[1]))[0]


def _keeps(latency: Measurement, budget_ms: float) -> bool:
    return keeps(latency.median_ms, latency.spread_ms, budget_ms)


def _log_measured(finalists: Sequence[Finalist], budget_ms: float) -> None:
    for finalist in finalists:
        trial, latency = finalist.trial, finalist.latency
        log.info(
            "finalist: trial %d, %s, predicted %.2f ms, %s %.2f +- %.2f ms: %s", trial.number, trial.summary,
            trial.latency_ms, "measured" if latency.rounds != PREDICTED else "by the device's table",
            latency.median_ms, latency.spread_ms,
            "within the budget" if _keeps(latency, budget_ms) else "over the budget",
        )  # fmt: skip
    ratio = statistics.median(one.latency.median_ms / one.trial.latency_ms for one in finalists)
    if not 1 / MAX_RATIO < ratio < MAX_RATIO:
        log.warning(
            "measured latencies are %.1f times the predicted ones: the machine was busy during one of them; "
            "mnas latency check evaluates a table again, mnas latency build measures a new one", ratio,
        )  # fmt: skip
