"""One search, step by step, from a run's configuration to the winners on disk."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from mnas.config import RunConfig
from mnas.estimators import Estimator
from mnas.estimators.factory import make_estimator
from mnas.estimators.weight_sharing import WeightSharing
from mnas.io.files import require_space
from mnas.latency.model import latency_model, with_budget
from mnas.monitor.console import log_file
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.assignment import budgets_of, end_workers, publish, why_alone
from mnas.pipeline.clock import RunClock, now
from mnas.pipeline.context import (
    Context,
    Overrides,
    full_trainer,
    searched_space,
    space_like,
)
from mnas.pipeline.kinds import kind_of
from mnas.pipeline.origins import run_origins
from mnas.pipeline.pacing import Pacing
from mnas.pipeline.plan import EXPORT_S, RACE_COST, Plan, limits_of, trainings_of
from mnas.pipeline.plan_log import log_plan
from mnas.pipeline.planning import plan_run, with_time
from mnas.pipeline.race import Contender
from mnas.pipeline.races import enter, run_races
from mnas.pipeline.races_file import races_of
from mnas.pipeline.references import Reference, Scaling, scaled_references, widest
from mnas.pipeline.shared_supernet import adopt, use_as_it_is, with_published_supernet, with_shared_supernet
from mnas.pipeline.torchrun import Job
from mnas.pipeline.trainings import SharedTrainings, Trainings
from mnas.pipeline.winners import Result, hand_over, result_of
from mnas.run import Run
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.study.analysis import analyse
from mnas.study.constraints import constraints_of, fastest_and_slowest
from mnas.study.database import open_storage
from mnas.study.problem import Problem
from mnas.study.progress import search_progress
from mnas.study.random_search import random_search
from mnas.study.sampler import search_sampler
from mnas.study.schedule import Schedule
from mnas.study.shared import SharedStudy
from mnas.study.study import Study
from mnas.study.trial import Trial
from mnas.training.distributed import SINGLE, ProcessGroup
from mnas.training.recipe import prolonged
from mnas.training.sizes import own_size

log = logging.getLogger("mnas")

NEEDED_BYTES = 300_000_000
"""Free space that a run begins with: about six networks in training, with their optimizers' state."""
AT_ONCE = 4
"""Candidates that a search with a supernet evaluates before it reports them to the sampler; at least one a process."""


def run_search(run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup = SINGLE) -> Result:
    """Search, in the process that owns the run's folder; each step finds what an earlier process finished."""
    clock = RunClock(run)
    with log_file(run.log_path), clock.kept():
        try:
            if run.state().done:
                log.info("this run is finished: %s", run.winner)
                group.broadcast(None)
            else:
                _search(run, config, overrides, group, clock)
            return group.broadcast(result_of(run, config))
        except KeyboardInterrupt:
            command = "mnas resume" if group.size == 1 else "torchrun ... -m -- mnas resume"
            log.warning("interrupted; continue this run with: %s %s", command, run.folder)
            raise


def _search(run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup, clock: RunClock) -> None:
    context, baselines = open_run(run, config, overrides, group)
    fastest, slowest_ms = _extremes(context)
    references = _references(context)
    context = with_time(context, clock.elapsed_s())
    plan = plan_run(context, _largest(context, references, baselines), clock.elapsed_s())
    context = context.decided()
    config = context.config
    alone = why_alone(context, plan, overrides) if config.storage is not None else None
    if not run.state().searched:
        log_plan(plan, context, overrides.estimator is not None)
    supernet = None if plan.supernet is None else plan.supernet.recipe
    use_as_it_is(run)
    candidate, accuracy = plan.candidate, config.objective.accuracy
    job = Job(str(run.folder), torch.get_num_threads(), candidate.recipe, candidate.select, supernet, accuracy)
    group.broadcast(job)
    with group.all_succeed():  # the workers are ready, or say why not
        pass
    sharing = None
    if supernet is not None:
        sharing = WeightSharing(run, config, context.space, context.trainer, group)
        sharing.train(supernet, context.board, clock.save)
    estimator = make_estimator(
        config, context.space, context.trainer, overrides.estimator, sharing, candidate.recipe, candidate.select
    )
    problem = Problem(
        context.space, config.objective, context.latency.predict, fastest=fastest, slowest_ms=slowest_ms,
        budgets_ms=budgets_of(config), constraints=context.constraints, num_classes=context.trainer.task.outputs,
    )  # fmt: skip
    study = _study(context, plan, overrides, problem, estimator.images, alone)
    with contextlib.closing(study):
        random_trials = _evaluate(context, study, plan, estimator, overrides.callbacks, clock)
    group.release()
    analysis = analyse(config, context.space, study.trials, random_trials)
    trainer = full_trainer(context)
    pacing = Pacing(trainer, config.recipe, plan.images_per_s)

    def paced(contenders: Sequence[Contender]) -> list[Contender]:
        return pacing.paced(contenders, _training_s(config, len(contenders), clock))

    entered = enter(context, study.trials, references, paced)
    trainings = Trainings(trainer, sharing, run.checkpoints, context.board)
    shared = SharedTrainings(trainings, config.recipe, group, clock.save)
    outcomes = run_races(context, shared, entered, pacing, _left_s(config, clock))
    epochs = outcomes[-1].winner.epochs
    run.update_state(recipe=config.recipe.model_copy(update={"epochs": epochs, "max_epochs": None}))
    group.release()

    def describe(budget_ms: float | None) -> Mapping[str, Any]:
        return {
            "space": context.space.name, "objective": config.objective.name, "sampler": config.sampler,
            "trials": study.evaluated, "seed": config.seed, "elapsed_s": round(clock.elapsed_s(), 1),
            "estimator": "own" if overrides.estimator is not None else accuracy,
            **analysis.metrics(budget_ms),
        }  # fmt: skip

    hand_over(context, shared, outcomes, baselines, describe, study.trials, pacing)
    context.board.close()
    if len(entered) == len(config.wanted_ms):
        run.update_state(done=True)


# --- steps


def open_run(
    run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup
) -> tuple[Context, list[tuple[str, Architecture]]]:
    """The context of a run, its latency tables made where needed, and the baselines by name."""
    require_space(run.folder, NEEDED_BYTES)  # before hours of work, not after
    if config.storage is not None:
        open_storage(overrides.storage or config.storage).close()
    adopt(run, config)
    kind = kind_of(config)
    data = kind.data(run, config, overrides.data, overrides.space)
    space = searched_space(run, config, overrides.space, data)
    config = with_shared_supernet(run, config, space)
    origins = run_origins(run, config, space, data, decides=True)
    space, config = space_like(space, origins), with_published_supernet(config, origins)
    trainer = replace(kind.trainer(config, space, data), origins=origins)
    outputs = trainer.task.outputs
    recipe = config.recipe.model_copy(update={"max_epochs": None})
    if config.budget_s is not None:
        recipe = prolonged(config.recipe, trainer.task.images)
    config = config.model_copy(update={"recipe": recipe})
    baselines = [(name, space.published(name)) for name in config.baselines]
    if not baselines and config.wanted_ms[0] is None:
        baselines = [space.rival(space.reference)]
    latency = latency_model(run, space, config, overrides.latency, outputs, [arch for _, arch in baselines])
    context = Context(
        run, config, space, trainer, group, TensorBoard(run.tensorboard), latency, constraints_of(config, outputs)
    )
    return context, baselines


def _references(context: Context) -> dict[float | None, list[Reference]]:
    """The reference networks scaled to each budget."""
    if races_of(context.run) or not context.config.references:  # they have entered already, or never do
        return {}
    space, allows, measure = context.space, context.constraints.satisfied_by, context.latency.measure
    own = own_size(context.data.image_size, space.resolutions)
    make = Scaling(space.rival, widest(bool(context.trainer.origins)))
    return {
        ms: scaled_references(zoo.kind_of(space.reference), space.resolutions, ms, measure, allows, make, own)
        for ms in context.config.wanted_ms if ms is not None
    }  # fmt: skip


def _largest(
    context: Context, references: Mapping[float | None, Sequence[Reference]],
    baselines: Sequence[tuple[str, Architecture]],
) -> Architecture:  # fmt: skip
    """The largest network that is to be trained fully, as far as it is known: the time plan goes by it."""
    known = [one.architecture for scaled in references.values() for one in scaled] + [arch for _, arch in baselines]
    known = known or [context.space.rival(context.space.reference)[1]]
    return max(known, key=lambda arch: cost(arch, context.trainer.task.outputs).madds)


def _extremes(context: Context) -> tuple[Architecture, float]:
    """The fastest network that keeps budgets and constraints, and the slowest one's milliseconds."""
    latency = context.latency
    within_budget = with_budget(latency, context.config.wanted_ms[0])
    fastest, slowest = fastest_and_slowest(within_budget, context.space, context.constraints)
    fastest_ms, slowest_ms = latency.predict(fastest), latency.predict(slowest)
    log.info("space %s: fastest network %.2f ms, slowest %.2f ms", context.space.name, fastest_ms, slowest_ms)
    budget_ms = latency.devices[0].budget_ms
    if budget_ms is not None and slowest_ms <= budget_ms:
        log.info(
            "the budget of %g ms does not bind: every network keeps it; --latency-ms %.2g would", budget_ms,
            0.6 * slowest_ms,
        )  # fmt: skip
    if len(latency.devices) > 1:
        log.info("with several devices, one latency is that of the binding device, scaled to the first one's budget")
    return fastest, slowest_ms


def _study(
    context: Context, plan: Plan, overrides: Overrides, problem: Problem, counted: int | None, alone: str | None
) -> Study:
    """The study of the run.

    `counted` is the number of images on which accuracies are measured; `alone` says why no worker shares the study.
    """
    config, latency = context.config, context.latency
    sampler = overrides.sampler or search_sampler(
        config.sampler, problem, seed=config.seed, quick=latency.quick, counted=counted
    )
    prune_after = plan.candidate.recipe.epochs // 2 if plan.supernet is None else 0
    if config.storage is None:
        return Study(context.run, problem, sampler, seed=config.seed, prune_after=prune_after)
    storage = open_storage(
        overrides.storage or config.storage, heartbeat_s=None if alone else config.heartbeat_s,
        patience_s=config.patience_s,
    )  # fmt: skip
    kind = Study if alone else SharedStudy
    try:
        study = kind(context.run, problem, sampler, storage=storage, seed=config.seed, prune_after=prune_after)
        publish(study, context, plan, alone)
    except BaseException:
        storage.close()
        raise
    return study


def _evaluate(
    context: Context, study: Study, plan: Plan, estimator: Estimator, after_trial: Sequence[Callable[[Trial], None]],
    clock: RunClock,
) -> list[Trial]:  # fmt: skip
    """Run the search, and the random search that it is compared with; returns the latter's trials."""
    run, group, config, figure = context.run, context.group, context.config, context.trainer.task.figure
    at_once = max(group.size, AT_ONCE if plan.supernet is not None else 1)

    def save(trial: Trial) -> None:
        clock.save()

    if not run.state().searched:
        schedule = Schedule(plan.trials, _deadline(config, plan, plan.searches, clock), at_once, group)
        with search_progress(study.problem, context.board, study.trials, schedule, figure) as show:
            if isinstance(study, SharedStudy):
                study.optimize(estimator, schedule, [show, save, *after_trial], takes=not config.workers_only)
            else:
                study.optimize(estimator, schedule, [show, save, *after_trial])
        run.update_state(searched=True)
    if isinstance(study, SharedStudy):
        end_workers(study)
    if not config.compare_random:
        return []
    deadline = now() if run.state().compared else _deadline(config, plan, 1, clock)
    schedule = Schedule(study.evaluated, deadline, at_once, group)
    trials = random_search(
        study.problem, estimator, schedule, run=run, board=context.board, seed=config.seed, callbacks=[save]
    )
    run.update_state(compared=True)
    return trials


def _deadline(config: RunConfig, plan: Plan, searches: int, clock: RunClock) -> float | None:
    """Deadline of the next of `searches` searches: an equal share of the time left, but at least one candidate's."""
    _, limit_s = limits_of(config)
    if limit_s is None:
        return None
    left_s = limit_s - clock.elapsed_s() - plan.final_s - EXPORT_S
    return now() + max(plan.candidate.seconds, left_s / searches)


def _left_s(config: RunConfig, clock: RunClock) -> Callable[[], float | None]:
    """Gives the seconds that are left for races; None where the run states no time."""
    limit_s = config.budget_s
    return lambda: None if limit_s is None else limit_s - clock.elapsed_s() - EXPORT_S


def _training_s(config: RunConfig, contenders: int, clock: RunClock) -> float | None:
    """Seconds of a full training, so that the races and what follows end in time; None without a limit."""
    _, limit_s = limits_of(config)
    if limit_s is None:
        return None
    trainings = trainings_of(config) - (RACE_COST - 1 if contenders == 1 and config.wanted_ms[0] is not None else 0)
    return (limit_s - clock.elapsed_s() - EXPORT_S) / trainings
