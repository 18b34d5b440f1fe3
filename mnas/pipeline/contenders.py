"""Who enters a race: the best candidates of the search, measured as whole networks, and the scaled references."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import torch

from mnas.errors import Infeasible
from mnas.io.size import Size
from mnas.latency.model import PREDICTED, Measure, keeps
from mnas.latency.timing.rounds import Measurement
from mnas.monitor.figures import NAMES, as_measured, with_spread
from mnas.nn.inheritance import fits
from mnas.nn.network import build
from mnas.nn.starting import outsiders_start
from mnas.pipeline.context import Context, full_trainer
from mnas.pipeline.neighbours import near_references
from mnas.pipeline.race import Contender, Rank
from mnas.pipeline.references import Reference
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.dense import classes_of
from mnas.study.objective import knee, ranking_key
from mnas.study.trial import ZERO_COST, Trial
from mnas.training.full import Weights
from mnas.training.sizes import own_size
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

UNTRAINED = ("zero_cost", "probe")
"""Estimators that train nothing."""
FINALISTS = 3
FEW = 2
"""Finalists that were scored without training, where fewer than IMAGES search-validation images judge the race: it
could not tell more of them apart, and each costs time that the training of all then lacks."""
IMAGES = 1000
NEAR = 0.6
"""Part of the budget, or of the slowest candidate's latency where that is less, from which on a candidate without
training is looked at first: smaller ones are hardly better. Then come those that the table has above the budget."""
NEAR_REFERENCES = 2 / 3
"""The part of the finalists without training that are near a reference: in races by time others were far behind, as
they train for fewer epochs (benchmarks/found_vs_reference.py)."""
GROUPS = 4
"""Groups of finalists after which it is enough that some keep the budget."""
MAX_RATIO = 1.5
"""Measured and predicted latencies that differ by a larger factor were not taken under the same conditions."""


def ranking(context: Context, budget_ms: float | None) -> Rank:
    """The order of networks within a budget, by the objective."""
    objective = context.config.objective
    return lambda accuracy, latency_ms: ranking_key(objective, accuracy, latency_ms, budget_ms)


def contenders(
    context: Context, trials: Sequence[Trial], references: Sequence[Reference], budget_ms: float | None
) -> list[Contender]:
    """Those of one race, the found ones first; no network twice. Infeasible where no network keeps the budget."""
    complete = [trial for trial in trials if trial.state == "complete"]
    if budget_ms is None:
        if not complete:
            raise Infeasible(_none_finished(None))
        point = knee((trial.accuracy or 0, trial.latency_ms) for trial in complete)
        best = next(trial for trial in complete if (trial.accuracy, trial.latency_ms) == point)
        return _with_weights([_found(best, Measurement(best.latency_ms, 0.0, PREDICTED))], context)
    if context.config.budgets_ms:
        log.info("finalists for %g ms:", budget_ms)
        slowest_ms = budget_ms * context.config.objective.evaluate_up_to
        complete = [trial for trial in complete if trial.latency_ms <= slowest_ms]
    entered = [
        Contender(one.name, one.architecture, "reference", one.latency) for one in best_references(context, references)
    ]
    near = list[Contender]()
    if context.run.state().estimator in UNTRAINED:
        near = near_references(context, entered, budget_ms, math.ceil(NEAR_REFERENCES * finalists_of(context)))
    found = [*near, *_of_the_search(context, complete, near, entered, budget_ms)]
    found, entered = _with_weights(found, context), _with_weights(entered, context)
    _log_starts([*found, *entered], full_trainer(context))
    config = context.config
    if context.run.state().estimator == "supernet" and not config.from_scratch and config.shared_supernet is None:
        found = _both_ways(found, finalists_of(context))
    return [*found, *entered]


def _of_the_search(
    context: Context, trials: Sequence[Trial], near: Sequence[Contender], references: Sequence[Contender],
    budget_ms: float,
) -> list[Contender]:  # fmt: skip
    """The best of `trials` beside those `near` the references; Infeasible where none of them all keeps the budget."""
    known = [one.architecture for one in (*near, *references)]
    others = [trial for trial in trials if trial.architecture not in known]
    if references and context.run.state().estimator in UNTRAINED:
        # published networks are there already, scaled to the budget; their smaller sizes are no discovery
        others = [trial for trial in others if not trial.name] or others
    count, figure = finalists_of(context) - len(near), NAMES[context.trainer.task.figure]
    if count < 1:
        return []
    try:
        return finalists(others, context.latency.measure, ranking(context, budget_ms), budget_ms, count, figure)
    except Infeasible as error:
        if not references:
            raise
        log.warning("%s; the race goes on without them", error)
        return []


def weights_of(arch: Architecture, context: Context) -> Weights:
    """What a network's training starts from: the supernet that the search was given, trained weights, or fresh ones."""
    config, space = context.config, context.space
    given = config.shared_supernet is not None and not config.from_scratch
    if given and (arch in space or fits(arch, outsiders_start(space))):
        return "inherited"
    return "scratch" if full_trainer(context).origin_of(arch) is None else "pretrained"


def _with_weights(contenders: Sequence[Contender], context: Context) -> list[Contender]:
    return [replace(one, weights=weights_of(one.architecture, context)) for one in contenders]


def finalists_of(context: Context) -> int:
    """How many found networks enter a race."""
    if context.config.finalists is not None:
        return context.config.finalists
    scored = context.run.state().estimator in UNTRAINED
    return FEW if scored and len(context.data.val) < IMAGES else FINALISTS


def _both_ways(found: Sequence[Contender], count: int) -> list[Contender]:
    """At most `count` entries: each candidate from the supernet's weights, and the best one from the other ones too."""
    inherited = [replace(contender, weights="inherited") for contender in found]
    if not inherited:
        return []
    other = "from scratch" if found[0].weights == "scratch" else "from the file's weights"
    fresh = replace(found[0], name=f"{found[0].name} {other}")
    return [inherited[0], fresh, *inherited[1:]][: max(2, count)]


def finalists(
    trials: Sequence[Trial], measure: Measure, rank: Rank, budget_ms: float, count: int,
    figure: str = "accuracy",
) -> list[Contender]:  # fmt: skip
    """At most `count` of the finished `trials` whose latency as whole networks keeps the budget, best estimate first.

    They are measured `count` at a time, until enough keep the budget. Raises Infeasible if none does.
    """
    if not trials:
        raise Infeasible(_none_finished(budget_ms))
    ranked = sorted(trials, key=lambda trial: rank(trial.accuracy or 0.0, trial.latency_ms), reverse=True)
    if ranked[0].evaluation.fidelity == ZERO_COST:
        near_ms = NEAR * min(budget_ms, max(trial.latency_ms for trial in ranked))
        near = [trial for trial in ranked if near_ms <= trial.latency_ms <= budget_ms]
        above = [trial for trial in ranked if trial.latency_ms > budget_ms]
        ranked = [*_by_turns(near), *above, *_by_turns([trial for trial in ranked if trial.latency_ms < near_ms])]
    kept: list[Contender] = []
    closest_ms = math.inf
    for start in range(0, len(ranked), count):
        group = ranked[start : start + count]
        latencies = measure([trial.architecture for trial in group])
        _log_measured(group, latencies, budget_ms, figure)
        kept += [
            _found(trial, latency) for trial, latency in zip(group, latencies, strict=True)
            if keeps(latency.median_ms, latency.spread_ms, budget_ms)
        ]  # fmt: skip
        if len(kept) >= count or (kept and start >= (GROUPS - 1) * count):
            break
        closest_ms = min(closest_ms, *(latency.median_ms for latency in latencies))
    if not kept:
        raise Infeasible(
            f"no candidate keeps {budget_ms:g} ms as a whole network, with its uncertainty (the fastest takes "
            f"{closest_ms:.2f} ms); if the machine was busy, mnas resume measures again; otherwise a new run with more "
            "--trials, a longer --budget or a larger --latency-ms may find one"
        )
    return kept[:count]


def _by_turns(ranked: Sequence[Trial]) -> list[Trial]:
    """The best of each resolution, then the second of each, ...: a score without training says little, so vary."""
    seen: dict[Size, int] = {}
    turns = []
    for trial in ranked:
        resolution = trial.architecture.resolution
        seen[resolution] = seen.get(resolution, 0) + 1
        turns.append(seen[resolution])
    return [trial for _, trial in sorted(zip(turns, ranked, strict=True), key=lambda pair: pair[0])]


def best_references(context: Context, references: Sequence[Reference]) -> list[Reference]:
    """The references that enter a race: those with the most multiply-adds, as nothing says more without training.

    Those for all of whose weights there are trained ones come before those for a part of whose weights there are.
    Where there are several, one is of the images' own size: it trains fastest, and is what one would try first.
    """
    outputs = context.trainer.task.outputs
    allowed = [one for one in references if context.constraints.satisfied_by(one.architecture)]
    allowed = _without_fresh(allowed, context)
    allowed.sort(key=lambda one: (_is_published(one, context), cost(one.architecture, outputs).madds), reverse=True)
    chosen = allowed[: context.config.references]
    own = own_size(context.data.image_size, context.space.resolutions)
    at_own_size = [one for one in allowed if one.architecture.resolution == own]
    if len(chosen) > 1 and at_own_size and not any(one in at_own_size for one in chosen):
        chosen[-1] = at_own_size[0]
    return chosen


def _without_fresh(references: list[Reference], context: Context) -> list[Reference]:
    """In a given supernet those that start from it, if any do: in a race so short fresh weights have no chance.

    A time budget makes a longer race.
    """
    if context.config.shared_supernet is None or context.config.budget_s is not None:
        return references
    started = [one for one in references if weights_of(one.architecture, context) == "inherited"]
    if not started:
        return references
    if left := [one.name for one in references if one not in started]:
        log.info("references: %s would start from fresh weights, which is no comparison: left out", ", ".join(left))
    return started


def _log_starts(contenders: Sequence[Contender], trainer: Trainer) -> None:
    """Log how much of each contender the trained weights cover, and how many layers compute otherwise than in them."""
    for one in contenders:
        origin = trainer.origin_of(one.architecture)
        if origin is not None and one.weights == "pretrained":
            with torch.random.fork_rng(devices=[]):
                coverage = origin.fill(build(one.architecture, classes_of(trainer.task.outputs)), one.architecture)
            log.info("%s starts with %s from %s", one.name, coverage, origin.name)


def _is_published(reference: Reference, context: Context) -> bool:
    """Whether the run has trained weights of just this network."""
    arch = reference.architecture
    origin = full_trainer(context).origin_of(arch)
    return origin is not None and replace(origin.architecture, resolution=arch.resolution) == arch


def _found(trial: Trial, latency: Measurement) -> Contender:
    return Contender(f"trial {trial.number}", trial.architecture, "found", latency, trial=trial.number)


def _none_finished(budget_ms: float | None) -> str:
    within = "" if budget_ms is None else f" within {budget_ms:g} ms"
    return f"no candidate was finished{within}; a new run with more --trials or a longer --budget may find one"


def _log_measured(
    trials: Sequence[Trial], latencies: Sequence[Measurement], budget_ms: float, figure: str
) -> None:
    for trial, latency in zip(trials, latencies, strict=True):
        log.info(
            "finalist: trial %d, %s, predicted %.2f ms, %s %s ms%s: %s", trial.number, trial.said(figure),
            trial.latency_ms, "measured" if latency.rounds != PREDICTED else "by the device's table",
            with_spread(latency.median_ms, latency.spread_ms), as_measured(latency.measured_ms, latency.speed_factor),
            "within the budget" if keeps(latency.median_ms, latency.spread_ms, budget_ms) else "over the budget",
        )  # fmt: skip
    ratio = statistics.median(
        latency.median_ms / trial.latency_ms for trial, latency in zip(trials, latencies, strict=True)
    )
    if not 1 / MAX_RATIO < ratio < MAX_RATIO:
        log.warning(
            "measured latencies are %.1f times the predicted ones: the machine was busy during one of them; "
            "mnas latency check evaluates a table again, mnas latency build measures a new one", ratio,
        )  # fmt: skip
