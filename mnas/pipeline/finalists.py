"""From finished trials to a network on disk: finalists measured, the winner trained, compared, written."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence

from mnas.config import Recipe
from mnas.errors import Infeasible
from mnas.estimators import estimated, never
from mnas.estimators.supernet import FINE_TUNED
from mnas.estimators.weight_sharing import WeightSharing
from mnas.latency.model import PREDICTED, Measure, keeps
from mnas.space.space import SearchSpace
from mnas.study import objective
from mnas.study.constraints import Constraints
from mnas.study.trial import Trial
from mnas.training.trainer import Trained

log = logging.getLogger("mnas")

MOST_OFF = 1.5
"""Measured and predicted latencies that differ by more than this factor were not taken under the same conditions."""





def finalists(
    trials: Sequence[Trial], measure: Measure, budget_ms: float | None, at_once: int
) -> list[Trial]:
    """The most accurate finished candidates whose measured latency keeps the budget: those of the first `at_once` that
    hold one, best first.

    Without a budget: the knee of the front of accuracy and latency. Raises Infeasible where no candidate keeps it.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        which = "" if budget_ms is None else f" within {budget_ms:g} ms"
        raise Infeasible(
            f"no candidate was finished{which}; a new run with more --trials or a longer --budget may find one"
        )
    if budget_ms is None:
        point = objective.knee((trial.accuracy or 0, trial.latency_ms) for trial in complete)
        return [next(trial for trial in complete if (trial.accuracy, trial.latency_ms) == point)]
    complete.sort(key=lambda trial: (-(trial.accuracy or 0), trial.latency_ms))
    closest = math.inf
    for start in range(0, len(complete), at_once):
        some = complete[start : start + at_once]
        measured = measure([trial.architecture for trial in some])
        for trial, latency in zip(some, measured, strict=True):
            log.info(
                "finalist: trial %d, %s, %.2f ms by the search, %.2f +- %.2f ms %s: %s",
                trial.number, trial.summary, trial.latency_ms, latency.median_ms, latency.spread_ms,
                "measured" if latency.rounds != PREDICTED else "predicted by a table, not measured",
                "keeps the budget" if keeps(latency.median_ms, latency.spread_ms, budget_ms) else "over the budget",
            )  # fmt: skip
            closest = min(closest, latency.median_ms)
        off = statistics.median(m.median_ms / t.latency_ms for t, m in zip(some, measured, strict=True))
        if not 1 / MOST_OFF < off < MOST_OFF:
            log.warning(
                "measured latencies are %.1f times the predicted ones: the machine was busy during one of them; "
                "mnas latency check judges a table anew, mnas latency build measures one", off,
            )  # fmt: skip
        kept = [
            trial for trial, latency in zip(some, measured, strict=True)
            if keeps(latency.median_ms, latency.spread_ms, budget_ms)
        ]  # fmt: skip
        if kept:
            return kept
    raise Infeasible(
        f"no candidate keeps {budget_ms:g} ms as a whole network, with its uncertainty (the fastest of them takes "
        f"{closest:.2f} ms); if the machine was busy, mnas resume measures again; otherwise a new run with more "
        "--trials, a longer --budget or a larger --latency-ms may find one"
    )


def most_accurate(
    trained: Sequence[Trained], space: SearchSpace, measure: Measure, budget_ms: float | None, constraints: Constraints
) -> Trained:
    """The best, by full training, of the chosen network (the first) and those baselines that a search could have found.

    A short training may have ranked a reference network too low: what is now known to be worse is not handed over.
    """
    able = [one for one in trained[1:] if one.architecture in space and constraints.satisfied_by(one.architecture)]
    rivals = [one for one in able if one.val_accuracy > trained[0].val_accuracy]
    if not rivals or budget_ms is None:
        return trained[0]
    measured = measure([one.architecture for one in rivals])
    kept = [
        one for one, latency in zip(rivals, measured, strict=True)
        if keeps(latency.median_ms, latency.spread_ms, budget_ms)
    ]  # fmt: skip
    return max(kept, key=lambda one: one.val_accuracy, default=trained[0])


def best_by_fine_tuning(finalists: Sequence[Trial], sharing: WeightSharing, finetune: Recipe | None) -> Trial:
    """The most accurate of the finalists, after each was trained on from its inherited weights once more.

    The mean of both estimates decides: the best of many noisy ones owes a part of its lead to chance. Without a
    recipe, the first of them.
    """
    if len(finalists) < 2 or finetune is None:
        return finalists[0]
    judge = sharing.estimator(finetune, select=False, again=1)
    reached = {}
    for trial in finalists:
        again = estimated(judge, trial.architecture, never).accuracy or 0.0
        both = [again, trial.accuracy or 0.0] if trial.fidelity == FINE_TUNED else [again]
        reached[trial.number] = statistics.fmean(both)
        log.info(
            "finalist: trial %d, accuracy %.2f%% %s, %.2f%% when trained on once more: %.2f%%", trial.number,
            100 * (trial.accuracy or 0), trial.fidelity, 100 * again, 100 * reached[trial.number],
        )  # fmt: skip
    return max(finalists, key=lambda trial: reached[trial.number])
