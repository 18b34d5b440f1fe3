"""A run planned: this machine's speed measured, a supernet trained or not, and what was decided kept for a resume."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from mnas.data.common import Images
from mnas.io.size import shown
from mnas.pipeline.clock import duration
from mnas.pipeline.context import Context
from mnas.pipeline.plan import EXPORT_S, Plan, Speeds, Workload, limits_of, make_plan, make_supernet_plan, trainings_of
from mnas.space.architecture import Architecture
from mnas.training.recipe import steps_an_epoch
from mnas.training.speed import fastest, supernet_speed

log = logging.getLogger("mnas")

MIN_SUPERNET_STEPS = 400
"""A supernet that gets fewer steps is not trained: after 75 to 108 it told no network from another, after 937 it ranked
with a tau of 0.57 (benchmarks/rank_correlation.py)."""

LEAST_LEFT = 0.6
"""The part of a time budget that search and race get whatever the latency table and waiting for a busy machine took: so
much that the race has half of it."""


def with_time(context: Context, elapsed_s: float) -> Context:
    """The context with a time budget of which enough is left for trainings; decided once, `elapsed_s` into the run."""
    config, run = context.config, context.run
    if config.budget_s is None:
        return context
    least_s = elapsed_s + LEAST_LEFT * config.budget_s + EXPORT_S
    budget_s = run.state().budget_s or max(config.budget_s, least_s)
    if run.state().budget_s is None:
        run.update_state(budget_s=budget_s)
        if budget_s > config.budget_s:
            log.warning(
                "%s of the budget of %s were gone before anything could be trained, with the latency table and waiting "
                "for other processes; trainings get their part all the same, so that the run ends %s later",
                duration(elapsed_s), duration(config.budget_s), duration(budget_s - config.budget_s),
            )  # fmt: skip
    return replace(context, config=config.model_copy(update={"budget_s": budget_s}))


def plan_run(context: Context, reference: Architecture, elapsed_s: float) -> Plan:
    """Measure how fast this machine trains, and divide the time left; `reference` is the largest network of the race.

    Sets the number of torch's threads. A resumed run keeps threads, precision, recipes and estimator of its
    beginning.
    """
    config, state = context.config, context.run.state()
    pace = fastest(
        reference, config.recipe, context.trainer.at_full_size(), threads=state.threads,
        precision=state.precision or config.precision,
    )  # fmt: skip
    torch.set_num_threads(pace.threads)
    images_per_s = pace.images_per_s
    log.info(
        "training in %s, threads: %d, %.0f images/s of %s px", pace.precision, pace.threads, images_per_s,
        shown(reference.resolution),
    )  # fmt: skip
    context.run.update_state(threads=pace.threads, precision=pace.precision)
    context = context.decided()
    trials, limit_s = limits_of(config)
    left_s = None if limit_s is None else limit_s - elapsed_s
    work = Workload(trials, left_s, trainings_of(config), context.group.size)
    accuracy = config.objective.accuracy if state.estimator is None else state.estimator
    if "estimator" in config.custom:
        return make_plan(context.data, config, work, images_per_s)
    if accuracy in ("auto", "supernet"):
        plan = _plan_with_supernet(context, work, images_per_s, must=accuracy == "supernet")
        if plan is not None:
            return plan
        probed = context.trainer.origins and context.trainer.task.probed
        accuracy = "probe" if probed else "zero_cost"
    plan = make_plan(context.data, config, work, images_per_s, state.proxy, trains=accuracy == "train")
    context.run.update_state(estimator=accuracy, proxy=plan.candidate.recipe)
    return plan


def _plan_with_supernet(context: Context, work: Workload, images_per_s: float, must: bool) -> Plan | None:
    """The plan of a search with a supernet; None where it would get too few steps to rank, unless it `must` be."""
    config, trainer, state = context.config, context.trainer, context.run.state()
    data, per_s = context.data, state.sandwich_per_s
    trained = context.run.supernet_weights.exists() or state.adapts is False
    if per_s is None and trained:  # by another run
        per_s = images_per_s
    elif per_s is None:
        # a step takes at least as long as its subnets alone; only where that leaves enough steps is it measured
        at_best = work.processes * images_per_s / (config.supernet.subnets + 1)
        plan = make_supernet_plan(data, config, work, Speeds(images_per_s, at_best))
        if not must and _steps(plan, len(data.train)) < MIN_SUPERNET_STEPS:
            _log_no_supernet(plan, data)
            return None
        per_s = work.processes * supernet_speed(context.space, config.supernet, trainer)
    plan = make_supernet_plan(data, config, work, Speeds(images_per_s, per_s), state, trained)
    if not must and _steps(plan, len(data.train)) < MIN_SUPERNET_STEPS:
        _log_no_supernet(plan, data)
        return None
    assert plan.supernet is not None
    context.run.update_state(
        estimator="supernet", supernet=plan.supernet.recipe, sandwich_per_s=per_s, select=plan.candidate.select,
        proxy=plan.candidate.recipe,
    )  # fmt: skip
    return plan


def _log_no_supernet(plan: Plan, data: Images) -> None:
    log.info(
        "no supernet: %d training images and the time left allow for %d steps, and below %d it does not rank; "
        "candidates are scored without training, and the race decides (--estimator supernet trains one all the same)",
        len(data.train), _steps(plan, len(data.train)), MIN_SUPERNET_STEPS,
    )  # fmt: skip


def _steps(plan: Plan, train: int) -> int:
    """The steps of the plan's supernet."""
    assert plan.supernet is not None
    return plan.supernet.recipe.epochs * steps_an_epoch(plan.supernet.recipe, train)
