"""How a search spends its time: a budget divided among supernet, candidates and the race of the best."""

from __future__ import annotations

from dataclasses import dataclass

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.common import Images
from mnas.estimators.supernet import STATISTICS_IMAGES
from mnas.estimators.train import MAX_VAL_IMAGES
from mnas.run import RunState
from mnas.study.objective import is_pareto

DEFAULT_TRIALS = 20
DEFAULT_BUDGET_S = 3600.0
RACE_COST = 2.5
"""What a race costs, in full trainings of the largest reference: all contenders start, two are trained to the end."""
RACE_FRACTION = 0.84
"""Fraction of the time left that the races may take, so that one full training gets a third of that time."""
WANTED_CANDIDATES = 14
"""A time budget allows for this many complete candidate trainings, or about twice as many with pruning.

With more, each training would be too short to rank the candidates.
"""
SUPERNET_FRACTION = 0.6
"""Fraction of the search's time for the supernet's training; the candidates take the rest."""
SEARCH_COST = 1.0
"""What a search, its supernet included, costs in full trainings of the largest reference: more only where a time budget
is longer than the longest race."""
SCORES_COST = 0.25
"""The same for a search that trains nothing: it ends long before, and the race has the time."""
UNTRAINED_TRIALS = 30
"""Candidates that are judged without training, unless the run states their number."""
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
    trainings: float
    """Full trainings that the races and the baselines outside of them cost together; see `trainings_of`."""
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
    """Expected seconds of the races."""
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


def limits_of(config: RunConfig) -> tuple[int | None, float | None]:
    """Candidates and seconds after which a run ends; the defaults if it states neither."""
    if config.trials is None and config.budget_s is None:
        return DEFAULT_TRIALS, DEFAULT_BUDGET_S
    return config.trials, config.budget_s


def trainings_of(config: RunConfig) -> float:
    """How many full trainings the end of a run costs: a race for each budget, stated baselines, other seeds."""
    races = RACE_COST if config.wanted_ms[0] is not None else 1 + (not config.baselines)
    compared = len(config.baselines) or len(config.wanted_ms)
    other_seeds = (config.seeds - 1) * (len(config.wanted_ms) + compared)
    return len(config.wanted_ms) * races + len(config.baselines) + other_seeds


def make_plan(
    data: Images, config: RunConfig, work: Workload, images_per_s: float, proxy: Recipe | None = None, *,
    trains: bool = True,
) -> Plan:  # fmt: skip
    """The plan of a search without a supernet; with less time, candidates get fewer images, then fewer epochs.

    `proxy` is the recipe with which the candidates of a resumed run were trained so far; `trains` is false where an
    estimator trains none.
    """
    searches = 1 + config.compare_random
    train, val = len(data.train), min(len(data.val), MAX_VAL_IMAGES)
    final_s, search_s = _divided(data, config, work, images_per_s, SEARCH_COST if trains else SCORES_COST)
    search_s = None if search_s is None else search_s / searches
    if not trains:
        trials = config.trials or UNTRAINED_TRIALS
        return Plan(trials, search_s, CandidatePlan(config.proxy, 0.0), final_s, images_per_s, searches=searches)
    if proxy is None:
        proxy = config.proxy
        if search_s is not None:
            candidates = min(work.trials, WANTED_CANDIDATES) if work.trials else WANTED_CANDIDATES
            proxy = _shortened(proxy, data, images_per_s, search_s / candidates)
    candidate = CandidatePlan(proxy, candidate_s(proxy, train, val, images_per_s))
    return Plan(work.trials, search_s, candidate, final_s, images_per_s, searches=searches)


def _divided(
    data: Images, config: RunConfig, work: Workload, images_per_s: float, search_cost: float = SEARCH_COST
) -> tuple[float, float | None]:
    """Seconds of the races, and of everything before them; None without a limit. `search_cost` in full trainings."""
    one_s = epoch_s(data, config.recipe, images_per_s) * config.recipe.epochs
    if work.left_s is None:
        return work.trainings * one_s, None
    usable_s = max(1.0, work.left_s - EXPORT_S)
    final_s = min(work.trainings * one_s, RACE_FRACTION * usable_s)
    before_s = min(usable_s - final_s, search_cost * final_s / work.trainings)
    if config.budget_s is not None:  # what is left prolongs the trainings; what they cannot use, the search
        longest_s = work.trainings * one_s * most_epochs(config.recipe) / config.recipe.epochs
        before_s = max(before_s, usable_s - longest_s)
        final_s = min(longest_s, usable_s - before_s)
    return final_s, before_s


def _shortened(proxy: Recipe, data: Images, images_per_s: float, wanted_s: float) -> Recipe:
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
    data: Images, config: RunConfig, work: Workload, speeds: Speeds, state: RunState | None = None,
    trained: bool = False,
) -> Plan:  # fmt: skip
    """The plan of a search with a supernet; `state` has the recipes of a resumed run, perhaps with a `trained` one."""
    state = state or RunState()
    final_s, before_s = _divided(data, config, work, speeds.network)
    if state.adapts is False and before_s is not None:  # another run's, as it is
        before_s *= 1 - SUPERNET_FRACTION
    train, searches = len(data.train), 1 + config.compare_random
    begun = state.proxy is not None and state.supernet is not None
    recipe = state.supernet if begun and state.supernet else _affordable(data, config, before_s, speeds.supernet)
    supernet_s = 0.0 if trained else recipe.epochs * min(train, recipe.images or train) / speeds.supernet
    search_s = None if before_s is None else max(0.0, before_s - supernet_s)
    proxy = state.proxy if begun and state.proxy else _affordable_finetune(data, config, work, search_s, speeds.network)
    fine_tuned = proxy.epochs * min(train, proxy.images or train) if config.finetune_epochs else 0
    one_s = (fine_tuned + _evaluated(data) / EVAL_SPEEDUP) / speeds.network
    search_s = None if search_s is None else search_s / searches
    # with several processes only one of them could end a candidate early, and equal candidates would differ
    select = one_s > SELECT_ABOVE_S and work.processes == 1 and not is_pareto(config.objective)
    select = select if state.select is None else state.select
    return Plan(
        work.trials, search_s, CandidatePlan(proxy, one_s, select), final_s, speeds.network,
        SupernetPlan(recipe, supernet_s), searches, work.processes,
    )  # fmt: skip


def _affordable_finetune(
    data: Images, config: RunConfig, work: Workload, search_s: float | None, images_per_s: float
) -> Recipe:
    """The fine-tuning recipe with as many epochs, or images of one, as the search's time allows."""
    images, epochs = min(len(data.train), config.finetune.images or len(data.train)), config.finetune_epochs
    if search_s is not None:
        candidates = min(work.trials or FINETUNED_CANDIDATES, FINETUNED_CANDIDATES)
        turns = (1 + config.compare_random) * -(-candidates // work.processes)
        wanted_s = search_s / turns
        epochs = min(epochs, max(0.0, (wanted_s * images_per_s - _evaluated(data) / EVAL_SPEEDUP) / images))
    return partial_epochs(config.finetune, epochs, images)


def _evaluated(data: Images) -> int:
    """Images on which one candidate is evaluated, those for its statistics included."""
    return min(len(data.val), MAX_VAL_IMAGES) + min(len(data.train), STATISTICS_IMAGES)


def _affordable(data: Images, config: RunConfig, before_s: float | None, images_per_s: float) -> SupernetRecipe:
    """The supernet's recipe with as many epochs, or images of one, as its fraction of the search's time allows."""
    train, recipe = len(data.train), config.supernet
    if before_s is None:
        return recipe
    images = min(train, recipe.images or train)
    most = recipe.epochs * (MAX_EPOCHS_FACTOR if config.budget_s else 1)
    affordable = SUPERNET_FRACTION * before_s * images_per_s
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


def affordable_epochs(recipe: Recipe, data: Images, training_s: float, images_per_s: float) -> int:
    """The epochs of a full training of so many seconds, up to `most_epochs`: at least one."""
    return max(1, min(most_epochs(recipe), int(training_s / epoch_s(data, recipe, images_per_s))))


def most_epochs(recipe: Recipe) -> int:
    """The epochs of the longest race for which time may be used."""
    return max(recipe.epochs, recipe.max_epochs or 0)


def epoch_s(data: Images, recipe: Recipe, images_per_s: float) -> float:
    """Seconds of one epoch of full training, validation included."""
    return (min(len(data.train), recipe.images or len(data.train)) + len(data.val) / EVAL_SPEEDUP) / images_per_s


def candidate_s(proxy: Recipe, train: int, val: int, images_per_s: float) -> float:
    """Seconds of one candidate's training on at most `train` images, with `val` images validated after each epoch."""
    return proxy.epochs * (min(train, proxy.images or train) + val / EVAL_SPEEDUP) / images_per_s
