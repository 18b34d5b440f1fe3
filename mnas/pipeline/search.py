"""One search, step by step, from a run's configuration to the winners on disk."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from mnas.config import Recipe, RunConfig
from mnas.estimators import Estimator
from mnas.estimators.factory import make_estimator
from mnas.estimators.weight_sharing import WeightSharing
from mnas.latency.model import latency_model, with_budget
from mnas.monitor.console import log_file
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.clock import RunClock, now
from mnas.pipeline.context import Context, Overrides, make_trainer, space_of
from mnas.pipeline.finalists import choose
from mnas.pipeline.plan import EXPORT_S, Plan, final_recipe, limits_of, plan_run
from mnas.pipeline.plan_log import log_plan
from mnas.pipeline.winners import FinalTraining, Result, hand_over, result_of
from mnas.pipeline.worker import Job
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.zoo import load_architecture
from mnas.study.analysis import analyse
from mnas.study.constraints import constraints_of, fastest_and_slowest
from mnas.study.problem import Problem
from mnas.study.progress import search_progress
from mnas.study.random_search import random_search
from mnas.study.sampler import search_sampler
from mnas.study.schedule import Schedule
from mnas.study.study import Study
from mnas.study.trial import Trial
from mnas.training.distributed import SINGLE, ProcessGroup

log = logging.getLogger("mnas")

AT_ONCE = 4
"""Candidates that a search with a supernet evaluates before it reports them to the sampler; at least one a process."""


def run_search(run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup = SINGLE) -> Result:
    """Search, in the process that owns the run's folder; each step finds what an earlier process finished."""
    clock = RunClock(run)
    with log_file(run.log_path):
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
        finally:
            clock.save()


def _search(run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup, clock: RunClock) -> None:
    context, baselines = _open(run, config, overrides, group)
    sharing = None
    if overrides.estimator is None and config.objective.accuracy == "supernet":
        sharing = WeightSharing(run, config, context.space, context.trainer, group)
    fastest, slowest_ms = _extremes(context)
    networks = len(config.wanted_ms) + len(baselines)
    plan = plan_run(context, sharing, networks, clock.elapsed_s())
    if not run.state().searched:
        log_plan(plan, context, networks, overrides.estimator is not None)
    supernet = None if plan.supernet is None else plan.supernet.recipe
    candidate = plan.candidate
    group.broadcast(Job(str(run.folder), torch.get_num_threads(), candidate.recipe, candidate.select, supernet))
    with group.all_succeed():  # the workers are ready, or say why not
        pass
    if sharing is not None and supernet is not None:
        sharing.train(supernet, context.board, clock.save)
    study = _study(context, plan, overrides, (fastest, slowest_ms))
    estimator = make_estimator(
        config, context.space, context.trainer, overrides.estimator, sharing, candidate.recipe, candidate.select
    )
    random_trials = _evaluate(context, study, plan, estimator, overrides.callbacks, clock)
    group.release()
    analysis = analyse(config, context.space, study.trials, random_trials)
    finetune = candidate.recipe if config.finetune_epochs else None
    chosen = choose(context, study.trials, sharing, finetune)
    recipe = _final_recipe(context, study.trials, plan, networks, clock.elapsed_s())

    def describe(budget_ms: float | None) -> Mapping[str, Any]:
        return {
            "space": context.space.name, "objective": config.objective.name, "sampler": config.sampler,
            "trials": study.evaluated, "seed": config.seed, "elapsed_s": round(clock.elapsed_s(), 1),
            "estimator": "own" if overrides.estimator is not None else config.objective.accuracy,
            **analysis.metrics(budget_ms),
        }  # fmt: skip

    hand_over(FinalTraining(context, recipe, sharing, clock.save), chosen, baselines, describe)
    context.board.close()
    if None not in chosen:
        run.update_state(done=True)


# --- steps


def _open(
    run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup
) -> tuple[Context, list[tuple[str, Architecture]]]:
    """The context of a run, its latency tables made where needed, and the baselines by name."""
    space = space_of(config, overrides.space)
    trainer = make_trainer(config, space, overrides.data)
    classes = trainer.data.num_classes
    names = config.baselines or (space.reference,)
    baselines = [(name, load_architecture(name, trainer.sizes.base)) for name in names]
    latency = latency_model(run, space, config, overrides.latency, classes, [arch for _, arch in baselines])
    context = Context(
        run, config, space, trainer, group, TensorBoard(run.tensorboard), latency, constraints_of(config, classes)
    )
    return context, baselines


def _extremes(context: Context) -> tuple[Architecture, float]:
    """The fastest network that keeps budgets and constraints, and the slowest one's milliseconds."""
    latency = context.latency
    within_budget = with_budget(latency, context.config.wanted_ms[0])
    fastest, slowest = fastest_and_slowest(within_budget, context.space, context.constraints)
    fastest_ms, slowest_ms = latency.predict(fastest), latency.predict(slowest)
    log.info("space %s: fastest network %.2f ms, slowest %.2f ms", context.space.name, fastest_ms, slowest_ms)
    if len(latency.devices) > 1:
        log.info("with several devices, one latency is that of the binding device, scaled to the first one's budget")
    return fastest, slowest_ms


def _study(
    context: Context, plan: Plan, overrides: Overrides, extremes: tuple[Architecture, float]
) -> Study:
    """The study of the run; `extremes` are the fastest network and the slowest one's milliseconds."""
    config, latency = context.config, context.latency
    problem = Problem(
        context.space, config.objective, latency.predict, fastest=extremes[0], slowest_ms=extremes[1],
        budgets_ms=tuple(ms for ms in config.wanted_ms if ms is not None), constraints=context.constraints,
        num_classes=context.data.num_classes,
    )  # fmt: skip
    sampler = overrides.sampler or search_sampler(
        config.sampler, problem, seed=config.seed, finished=len(context.run.read_trials()), quick=latency.quick
    )
    prune_after = plan.candidate.recipe.epochs // 2 if plan.supernet is None else 0
    return Study(
        context.run, problem, sampler, storage=config.storage, seed=config.seed, prune_after=prune_after
    )


def _evaluate(
    context: Context, study: Study, plan: Plan, estimator: Estimator, after_trial: Sequence[Callable[[Trial], None]],
    clock: RunClock,
) -> list[Trial]:  # fmt: skip
    """Run the search, and the random search that it is compared with; returns the latter's trials."""
    run, group, config = context.run, context.group, context.config
    at_once = max(group.size, AT_ONCE if plan.supernet is not None else 1)

    def save(trial: Trial) -> None:
        clock.save()

    if not run.state().searched:
        schedule = Schedule(plan.trials, _deadline(config, plan, plan.searches, clock), at_once, group)
        with search_progress(study.problem, context.board, study.trials, schedule) as show:
            study.optimize(estimator, schedule, [show, save, *after_trial])
        run.update_state(searched=True)
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


def _final_recipe(context: Context, trials: Iterable[Trial], plan: Plan, networks: int, elapsed_s: float) -> Recipe:
    state, config = context.run.state(), context.config
    if state.recipe is not None:
        return state.recipe
    _, limit_s = limits_of(config)
    left_s = None if limit_s is None else limit_s - elapsed_s
    seconds = [trial.seconds for trial in trials if trial.state == "complete" and trial.seconds > 0]
    images_per_s = plan.images_per_s
    if seconds and plan.supernet is None and config.objective.accuracy == "train" and "estimator" not in config.custom:
        # the candidates' trainings are a longer measurement than the first few steps
        images_per_s *= plan.candidate.seconds / statistics.median(seconds)
    recipe = final_recipe(config.recipe, context.data, left_s=left_s, networks=networks, images_per_s=images_per_s)
    context.run.update_state(recipe=recipe)
    return recipe
