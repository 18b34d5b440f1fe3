"""How a search spends its time: a budget divided among supernet, candidates, winners and baselines."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.sources import ImageData
from mnas.estimators.supernet import STATISTICS_IMAGES
from mnas.estimators.train import MAX_VAL_IMAGES
from mnas.estimators.weight_sharing import WeightSharing
from mnas.pipeline.context import Context
from mnas.run import RunState
from mnas.space import zoo
from mnas.study.objective import is_pareto
from mnas.training.speed import fastest_threads, supernet_speed

DEFAULT_TRIALS = 20
DEFAULT_BUDGET_S = 3600.0
SEARCH_FRACTION = 0.55
"""Fraction of the time left at the search's start that it may take; the rest trains the winner and the baselines."""
WANTED_CANDIDATES = 14
"""A time budget allows for this many complete candidate trainings, or about twice as many with pruning.

With more, each training would be too short to rank the candidates.
"""
SUPERNET_FRACTION, FINAL_FRACTION = 0.4, 0.3
"""Fractions of the time left for the supernet's training and for the final trainings; the search takes the rest."""
MAX_EPOCHS_FACTOR = 10
"""A long time budget trains the supernet for at most this many times its recipe's epochs."""
FINETUNED_CANDIDATES = 24
"""A time budget allows for fine-tuning this many candidates: fine-tuning is shortened until it does."""
SELECT_ABOVE_S = 20.0
"""Where fine-tuning takes longer, only candidates whose inherited accuracy is above the median of those fine-tuned so
far are fine-tuned."""
EVAL_SPEEDUP = 3.0
"""Images are classified about this many times as fast as they are trained on."""
EXPORT_S = 20.0


@dataclass(frozen=True)
class CandidatePlan:
    """How one candidate is estimated."""

    recipe: Recipe
    """Its training, or its fine-tuning from inherited weights."""
    seconds: float
    select: bool = False
    """Whether only promising candidates are fine-tuned."""


@dataclass(frozen=True)
class SupernetPlan:
    """How the supernet is trained."""

    recipe: SupernetRecipe
    seconds: float
    """Expected seconds; 0 once it is trained."""


@dataclass(frozen=True)
class Workload:
    """What a run has to do, and in which time."""

    trials: int | None
    """Candidates to evaluate; None without a limit."""
    left_s: float | None
    """Seconds left for everything; None without a limit."""
    networks: int
    """Networks to train fully in the end: winners and baselines."""
    processes: int = 1


@dataclass(frozen=True)
class Speeds:
    """Training images per second."""

    network: float
    """One network in one process."""
    supernet: float
    """The supernet in all processes together, an image counted once for all subnets of its step."""


@dataclass(frozen=True)
class Plan:
    """How the search spends its time."""

    trials: int | None
    search_s: float | None
    """Seconds of each search; None without a limit."""
    candidate: CandidatePlan
    final_s: float
    """Expected seconds after the search: finalists, winners and baselines."""
    images_per_s: float
    """Measured speed of training one network."""
    supernet: SupernetPlan | None = None
    searches: int = 1
    """2 if as many random candidates follow (--compare-random)."""
    processes: int = 1
    """Each evaluates its share of the candidates."""

    def expected_s(self) -> float:
        """Expected seconds for everything from now on."""
        turns = -(-self.trials // self.processes) if self.trials else 0
        search = self.candidate.seconds * turns if self.trials else self.search_s or 0.0
        supernet_s = self.supernet.seconds if self.supernet else 0.0
        return supernet_s + self.searches * min(search, self.search_s or search) + self.final_s + EXPORT_S


# --- the plan of a run


def limits_of(config: RunConfig) -> tuple[int | None, float | None]:
    """Candidates and seconds after which a run ends; the defaults if it states neither."""
    if config.trials is None and config.budget_s is None:
        return DEFAULT_TRIALS, DEFAULT_BUDGET_S
    return config.trials, config.budget_s


def plan_run(context: Context, sharing: WeightSharing | None, networks: int, elapsed_s: float) -> Plan:
    """Measure how fast this machine trains, and divide the time left; `networks` are trained fully in the end.

    Sets the number of torch's threads. A resumed run keeps the recipes with which it began.
    """
    config, trainer, state = context.config, context.trainer, context.run.state()
    reference = zoo.get(context.space.reference, resolution=trainer.sizes.base)
    threads, images_per_s = fastest_threads(reference, config.proxy, trainer)
    torch.set_num_threads(threads)
    trials, limit_s = limits_of(config)
    left_s = None if limit_s is None else limit_s - elapsed_s
    work = Workload(trials, left_s, networks, context.group.size)
    if sharing is None:
        plan = make_plan(context.data, config, work, images_per_s, state.proxy)
        context.run.update_state(proxy=plan.candidate.recipe)
        return plan
    per_s = state.sandwich_per_s or work.processes * supernet_speed(context.space, config.supernet, trainer)
    plan = make_supernet_plan(context.data, config, work, Speeds(images_per_s, per_s), state, sharing.trained)
    assert plan.supernet is not None
    context.run.update_state(
        supernet=plan.supernet.recipe, sandwich_per_s=per_s, select=plan.candidate.select, proxy=plan.candidate.recipe
    )
    return plan


def make_plan(
    data: ImageData, config: RunConfig, work: Workload, images_per_s: float, proxy: Recipe | None = None
) -> Plan:
    """The plan of a search without a supernet; with less time, candidates get fewer images, then fewer epochs.

    `proxy` is the recipe with which the candidates of a resumed run were trained so far.
    """
    searches = 1 + config.compare_random
    train, val = len(data.train), min(len(data.val), MAX_VAL_IMAGES)
    final_s = work.networks * epoch_s(data, config.recipe, images_per_s) * config.recipe.epochs
    search_s = None
    if work.left_s is not None:
        usable_s = max(1.0, work.left_s - EXPORT_S)
        final_s = min(final_s, (1 - SEARCH_FRACTION) * usable_s)
        search_s = (usable_s - final_s) / searches
    if proxy is None:
        proxy = config.proxy
        if search_s is not None:
            candidates = min(work.trials, WANTED_CANDIDATES) if work.trials else WANTED_CANDIDATES
            proxy = _shortened(proxy, data, images_per_s, search_s / candidates)
    candidate = CandidatePlan(proxy, candidate_s(proxy, train, val, images_per_s))
    return Plan(work.trials, search_s, candidate, final_s, images_per_s, searches=searches)


def _shortened(proxy: Recipe, data: ImageData, images_per_s: float, wanted_s: float) -> Recipe:
    """`proxy` with fewer images, then fewer epochs, until a candidate takes `wanted_s`, or no less is sensible."""
    train, val = len(data.train), min(len(data.val), MAX_VAL_IMAGES)
    fewest = min(train, max(10 * proxy.batch_size, 20 * data.num_classes))
    while candidate_s(proxy, train, val, images_per_s) > wanted_s:
        images = min(train, proxy.images or train)
        if images > fewest:
            proxy = proxy.model_copy(update={"images": max(fewest, int(images * 0.8))})
        elif proxy.epochs > 1:
            proxy = proxy.model_copy(update={"epochs": proxy.epochs - 1})
        else:
            break
    return proxy


def make_supernet_plan(
    data: ImageData, config: RunConfig, work: Workload, speeds: Speeds, state: RunState | None = None,
    trained: bool = False,
) -> Plan:  # fmt: skip
    """The plan of a search with a supernet; `state` has the recipes of a resumed run, perhaps with a `trained` one."""
    state = state or RunState()
    final_s = work.networks * epoch_s(data, config.recipe, speeds.network) * config.recipe.epochs
    usable_s = None if work.left_s is None else max(1.0, work.left_s - EXPORT_S)
    if usable_s is not None:
        final_s = min(final_s, FINAL_FRACTION * usable_s)
    train, searches = len(data.train), 1 + config.compare_random
    begun = state.proxy is not None and state.supernet is not None
    recipe = state.supernet if begun and state.supernet else _affordable(data, config, usable_s, speeds.supernet)
    supernet_s = 0.0 if trained else recipe.epochs * min(train, recipe.images or train) / speeds.supernet
    search_s = None if usable_s is None else max(0.0, usable_s - final_s - supernet_s)
    proxy = state.proxy if begun and state.proxy else _affordable_finetune(data, config, work, search_s, speeds.network)
    fine_tuned = proxy.epochs * min(train, proxy.images or train) if config.finetune_epochs else 0
    one_s = (fine_tuned + _evaluated(data) / EVAL_SPEEDUP) / speeds.network
    finalists_s = config.finalists * len(config.wanted_ms) * one_s if config.finetune_epochs else 0.0
    search_s = None if search_s is None else max(0.0, search_s - finalists_s) / searches
    # with several processes only one of them could end a candidate early, and equal candidates would differ
    select = one_s > SELECT_ABOVE_S and work.processes == 1 and not is_pareto(config.objective)
    select = select if state.select is None else state.select
    return Plan(
        work.trials, search_s, CandidatePlan(proxy, one_s, select), final_s + finalists_s, speeds.network,
        SupernetPlan(recipe, supernet_s), searches, work.processes,
    )  # fmt: skip


def _affordable_finetune(
    data: ImageData, config: RunConfig, work: Workload, search_s: float | None, images_per_s: float
) -> Recipe:
    """The fine-tuning recipe with as many epochs, or images of one, as the search's time allows."""
    images, epochs = min(len(data.train), config.finetune.images or len(data.train)), config.finetune_epochs
    if search_s is not None:
        candidates = min(work.trials or FINETUNED_CANDIDATES, FINETUNED_CANDIDATES)
        turns = (1 + config.compare_random) * -(-candidates // work.processes)
        wanted_s = search_s / (turns + config.finalists * len(config.wanted_ms))
        epochs = min(epochs, max(0.0, (wanted_s * images_per_s - _evaluated(data) / EVAL_SPEEDUP) / images))
    return partial_epochs(config.finetune, epochs, images)


def _evaluated(data: ImageData) -> int:
    """Images on which one candidate is evaluated, those for its statistics included."""
    return min(len(data.val), MAX_VAL_IMAGES) + min(len(data.train), STATISTICS_IMAGES)


def _affordable(data: ImageData, config: RunConfig, usable_s: float | None, images_per_s: float) -> SupernetRecipe:
    """The supernet's recipe with as many epochs, or images of one, as its fraction of the time allows."""
    train, recipe = len(data.train), config.supernet
    if usable_s is None:
        return recipe
    images = min(train, recipe.images or train)
    most = recipe.epochs * (MAX_EPOCHS_FACTOR if config.budget_s else 1)
    affordable = SUPERNET_FRACTION * usable_s * images_per_s
    fewest = min(images, max(10 * recipe.batch_size, 20 * data.num_classes))
    images = max(fewest, min(images, int(affordable)))
    return recipe.model_copy(update={
        "epochs": max(1, min(most, int(affordable / images))), "images": None if images == train else images,
    })  # fmt: skip


def partial_epochs(recipe: Recipe, epochs: float, images: int) -> Recipe:
    """`recipe` for a number of epochs of `images` images; less than one epoch becomes one of fewer images."""
    if epochs >= 1:
        return recipe.model_copy(update={"epochs": int(epochs)})
    return recipe.model_copy(update={"epochs": 1, "images": max(recipe.batch_size, int(epochs * images))})


def final_recipe(
    recipe: Recipe, data: ImageData, *, left_s: float | None, networks: int, images_per_s: float
) -> Recipe:
    """The recipe of winners and baselines, with as many of its epochs as the time left allows: at least one."""
    if left_s is None:
        return recipe
    affordable = int((left_s - EXPORT_S) / (networks * epoch_s(data, recipe, images_per_s)))
    return recipe.model_copy(update={"epochs": max(1, min(recipe.epochs, affordable))})


def epoch_s(data: ImageData, recipe: Recipe, images_per_s: float) -> float:
    """Seconds of one epoch of full training, validation included."""
    return (min(len(data.train), recipe.images or len(data.train)) + len(data.val) / EVAL_SPEEDUP) / images_per_s


def candidate_s(proxy: Recipe, train: int, val: int, images_per_s: float) -> float:
    """Seconds of one candidate's training on at most `train` images, with `val` images validated after each epoch."""
    return proxy.epochs * (min(train, proxy.images or train) + val / EVAL_SPEEDUP) / images_per_s
