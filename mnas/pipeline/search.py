"""One search from its configuration to the winner on disk: `mnas search` and `mnas.search`."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
import torch

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.sources import ImageData
from mnas.estimators.factory import EstimatorCallable, accuracy_source
from mnas.estimators.train import MAX_VAL_IMAGES
from mnas.estimators.weight_sharing import WeightSharing
from mnas.io.strict_yaml import validate
from mnas.latency.model import LatencyCallable, latency_source, within
from mnas.monitor.console import log_file
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.plan import (
    DEFAULT_BUDGET_S,
    DEFAULT_TRIALS,
    EXPORT_S,
    Plan,
    candidate_s,
    duration,
    final_recipe,
    make_plan,
    make_supernet_plan,
    now,
    told,
)
from mnas.pipeline.winners import Facts, Handover, Result, result_of
from mnas.run import Run
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.space.zoo import load_architecture
from mnas.study.analysis import Findings
from mnas.study.constraints import extremes, limits_of
from mnas.study.random_search import random_search
from mnas.study.sampler import search_sampler
from mnas.study.study import Goal, Study
from mnas.study.trial import Trial
from mnas.training.device import pick_device
from mnas.training.distributed import ALONE, Peers
from mnas.training.speed import fastest_threads, sandwich_speed
from mnas.training.task import task_of

log = logging.getLogger("mnas")

AT_ONCE = 4
"""Candidates that a supernet's search judges before the sampler learns of any, or one for each process."""


@dataclass(frozen=True)
class Objects:
    """What was given from Python in place of names."""

    space: SearchSpace | None = None
    data: ImageData | None = None
    estimator: EstimatorCallable | None = None
    latency: LatencyCallable | None = None
    sampler: optuna.samplers.BaseSampler | None = None
    callbacks: Sequence[Callable[[Trial], None]] = ()

    def names(self) -> tuple[str, ...]:
        kinds = ("space", "data", "estimator", "latency", "sampler")
        return tuple(kind for kind in kinds if getattr(self, kind) is not None)


def space_of(config: RunConfig, given: Objects) -> SearchSpace:
    """The space of a run, as it was when the run began."""
    space = given.space
    if space is None:
        space = SearchSpace(validate(SpaceFile, config.space_file, config.space))
    return space.with_resolutions(config.resolution) if config.resolution else space




# --- the search -------------------------------------------------------------------------------------------------


class Search:
    """One run, step by step; each step finds what an earlier process finished."""

    def __init__(self, run: Run, config: RunConfig, given: Objects, peers: Peers = ALONE):
        self.run, self.config, self.given, self.peers = run, config, given, peers
        self._began = now() - run.read_state().get("elapsed_s", 0.0)

    def go(self) -> Result:
        with log_file(self.run.log_path):
            try:
                return self.peers.told(self._go())
            except KeyboardInterrupt:
                command = "mnas resume" if self.peers.size == 1 else "torchrun ... -m mnas resume"
                log.warning("interrupted; this run goes on with: %s %s", command, self.run.folder)
                raise
            finally:
                self._save_elapsed()

    def _go(self) -> Result:
        config = self.config
        if self.run.read_state().get("done"):
            log.info("this run is finished: %s", self.run.winner)
            self.peers.told(None)
            return result_of(self.run, config)
        self.space = space_of(config, self.given)
        self.device = pick_device(config.device)
        self.task = task_of(config, self.space, self.given.data)
        self.data = self.task.data
        baselines = self._baselines()
        self.limits = limits_of(config, self.data.num_classes)
        self.latency = latency_source(
            self.run, self.space, config, self.given.latency, self.data.num_classes, [arch for _, arch in baselines]
        )
        self._find_extremes()
        self.sharing = self._weight_sharing()
        self.board = TensorBoard(self.run.tensorboard)
        networks = len(config.wanted_ms) + len(baselines)
        plan = self._plan(networks)
        self.peers.told({
            "folder": str(self.run.folder), "threads": torch.get_num_threads(), "proxy": plan.proxy.model_dump(),
            "select": plan.select, "supernet": None if plan.supernet is None else plan.supernet.model_dump(),
        })  # fmt: skip
        with self.peers.agreed():  # the others are ready, or say why not
            pass
        if self.sharing is not None and plan.supernet is not None:
            self.sharing.train(plan.supernet, self.board, self._save_elapsed)
        study = self._study(plan)
        drawn = self._evaluate(study, plan)
        self.peers.dismiss()
        facts = self._facts(study, drawn)
        handover = Handover(
            self.run, config, self.space, self.task, self.latency, self.limits, self.sharing, self.board, self.device,
            self._save_elapsed,
        )  # fmt: skip
        chosen = handover.choose(study.trials, plan.proxy)
        recipe = self._final_recipe(study.trials, plan, networks)
        handover.finish(chosen, baselines, recipe, facts)
        self.board.close()
        self.run.write_state(done=True)
        return result_of(self.run, config)

    # --- budget

    @property
    def _budget_ms(self) -> float | None:
        """The first device's, on whose scale all latencies are; the largest where it has several."""
        return self.config.targets[0].latency_ms

    def _find_extremes(self) -> None:
        self._fastest, slowest = extremes(within(self.latency, self.config.wanted_ms[0]), self.space, self.limits)
        fastest_ms, self._slowest_ms = self.latency.predict(self._fastest), self.latency.predict(slowest)
        log.info("space %s: fastest network %.2f ms, slowest %.2f ms", self.space.name, fastest_ms, self._slowest_ms)
        if len(self.latency.each) > 1:
            log.info("where one latency is told, it is the binding device's, on the scale of the first one's budget")

    # --- plan and study

    def _baselines(self) -> list[tuple[str, Architecture]]:
        names = self.config.baselines or (self.space.reference,)
        return [(name, load_architecture(name, self.task.base)) for name in names]

    def _plan(self, networks: int) -> Plan:
        config = self.config
        reference = zoo.get(self.space.reference, resolution=self.task.base)
        threads, self._speed = fastest_threads(
            reference, self.data, config.proxy, self.task.size_of(reference), self.device
        )
        torch.set_num_threads(threads)
        trials, limit_s = config.trials, config.budget_s
        if trials is None and limit_s is None:
            trials, limit_s = DEFAULT_TRIALS, DEFAULT_BUDGET_S
        self._limit_s = limit_s
        plan = self._made(trials, limit_s, networks)
        if self.run.read_state().get("searched"):
            return plan
        goal = "the front" if self._budget_ms is None else "the most accurate within " + " and ".join(
            f"{'/'.join(f'{ms:g}' for ms in config.budgets_ms or (one.budget_ms,))} ms ({one.runtime} on {one.device})"
            for one in self.latency.each
        )
        winners = f"{len(config.budgets_ms)} winners" if config.budgets_ms else "the winner"
        log.info("space %s: %.3g networks; looking for %s", self.space.name, self.space.size, goal)
        log.info(
            "%s; then %s and %d baseline(s) train for up to %d epochs; in all about %s from now",
            told(plan, config, len(self.data.train), own=self.given.estimator is not None), winners,
            networks - len(config.wanted_ms), config.recipe.epochs, duration(plan.expected_s()),
        )  # fmt: skip
        return plan

    def _made(self, trials: int | None, limit_s: float | None, networks: int) -> Plan:
        """The plan; candidates and supernet of one run are trained alike, also after a resume."""
        config, state = self.config, self.run.read_state()
        left_s = None if limit_s is None else limit_s - self._elapsed()
        if self.sharing is None:
            plan = make_plan(self.data, config.proxy, config.recipe, trials=trials, left_s=left_s, networks=networks,
                             images_per_s=self._speed, searches=1 + config.compare_random)
            if "proxy" in state:
                proxy = validate(Recipe, state["proxy"], "state.json")
                val = min(len(self.data.val), MAX_VAL_IMAGES)
                one_s = candidate_s(proxy, len(self.data.train), val, self._speed)
                plan = replace(plan, proxy=proxy, candidate_s=one_s)
        else:
            sandwich_per_s = state.get("sandwich_per_s") or self.peers.size * sandwich_speed(
                self.space, self.data, config.supernet, self.task.size_of, self.device
            )
            decided = None
            if state.keys() >= {"proxy", "supernet"}:
                decided = (validate(Recipe, state["proxy"], "state.json"),
                           validate(SupernetRecipe, state["supernet"], "state.json"))
            plan = make_supernet_plan(
                self.data, config, trials=trials, left_s=left_s, networks=networks, images_per_s=self._speed,
                sandwich_per_s=sandwich_per_s, processes=self.peers.size, decided=decided, trained=self.sharing.trained,
            )  # fmt: skip
            plan = replace(plan, select=state.get("select", plan.select))
            assert plan.supernet is not None
            self.run.write_state(
                supernet=plan.supernet.model_dump(), sandwich_per_s=sandwich_per_s, select=plan.select
            )
        self.run.write_state(proxy=plan.proxy.model_dump())
        return plan

    def _study(self, plan: Plan) -> Study:
        config = self.config
        goal = Goal(config.objective, self._budget_ms, config.budgets_ms)
        sampler = self.given.sampler or search_sampler(
            config.sampler, config.seed, len(self.run.read_trials()), self.space,
            latency=self.latency.predict if self.latency.quick else None, limit_ms=goal.limit_ms, limits=self.limits,
        )  # fmt: skip
        return Study(
            self.run, self.space, goal, sampler=sampler, storage=config.storage, seed=config.seed,
            latency=self.latency.predict, num_classes=self.data.num_classes, board=self.board,
            fastest=self._fastest, slowest_ms=self._slowest_ms, limits=self.limits,
            prune_after=plan.proxy.epochs // 2 if self.sharing is None else 0,
            callbacks=(lambda trial: self._save_elapsed(), *self.given.callbacks),
        )  # fmt: skip

    def _weight_sharing(self) -> WeightSharing | None:
        if self.given.estimator is not None or self.config.objective.accuracy != "supernet":
            return None
        return WeightSharing(
            self.run, self.space, self.config, self.task, device=self.device, peers=self.peers
        )

    def _evaluate(self, study: Study, plan: Plan) -> list[Trial]:
        """The search, and the random candidates that it is compared with; what is finished is not begun again."""
        estimator = accuracy_source(
            self.config, self.given.estimator, self.space, self.task, self.device, self.sharing, plan.proxy,
            plan.select,
        )  # fmt: skip
        about: dict[str, Any] = {
            "at_once": max(self.peers.size, AT_ONCE if self.sharing is not None else 1), "peers": self.peers,
        }  # fmt: skip
        if not self.run.read_state().get("searched"):
            study.optimize(estimator, trials=plan.trials, deadline=self._deadline(plan, plan.searches), **about)
            self.run.write_state(searched=True)
        if not self.config.compare_random:
            return []
        over = self.run.read_state().get("compared")
        drawn = random_search(
            study, estimator, seed=self.config.seed, board=self.board,
            deadline=now() if over else self._deadline(plan, 1), callback=lambda trial: self._save_elapsed(), **about,
        )  # fmt: skip
        self.run.write_state(compared=True)
        return drawn

    def _deadline(self, plan: Plan, searches: int) -> float | None:
        """When the first of so many searches ends, one candidate in any case; winners and baselines need the rest."""
        if self._limit_s is None:
            return None
        left_s = self._limit_s - self._elapsed() - plan.final_s - EXPORT_S
        return now() + max(plan.candidate_s, left_s / searches)

    def _final_recipe(self, trials: Iterable[Trial], plan: Plan, networks: int) -> Recipe:
        state = self.run.read_state()
        if "recipe" in state:
            return validate(Recipe, state["recipe"], "state.json")
        left_s = None if self._limit_s is None else self._limit_s - self._elapsed()
        took = [trial.seconds for trial in trials if trial.state == "complete" and trial.seconds > 0]
        speed = self._speed
        alone = self.given.estimator is None and self.config.objective.accuracy == "train"
        if took and alone:  # what the candidates took says more than the first few steps did
            speed *= plan.candidate_s / statistics.median(took)
        recipe = final_recipe(self.config.recipe, self.data, left_s=left_s, networks=networks, images_per_s=speed)
        self.run.write_state(recipe=recipe.model_dump())
        return recipe

    def _facts(self, study: Study, drawn: Sequence[Trial]) -> Facts:
        """What metrics.json says of the search."""
        config, findings = self.config, Findings(self.config, self.space, study.trials, drawn)

        def facts(budget_ms: float | None) -> dict[str, Any]:
            return {
                "space": self.space.name, "objective": config.objective.name, "sampler": config.sampler,
                "trials": study.evaluated, "seed": config.seed, "elapsed_s": round(self._elapsed(), 1),
                "estimator": "own" if self.given.estimator is not None else config.objective.accuracy,
                **findings.of(budget_ms),
            }  # fmt: skip

        return facts

    # --- time

    def _elapsed(self) -> float:
        """Seconds that this run took so far, in all its processes."""
        return now() - self._began

    def _save_elapsed(self) -> None:
        self.run.write_state(elapsed_s=round(self._elapsed(), 1))
