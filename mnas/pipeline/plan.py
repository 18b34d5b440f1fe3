"""What a search will do and about how long it takes: a time budget divided among candidates, winner and baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.sources import ImageData
from mnas.estimators.supernet import CALIBRATION_IMAGES
from mnas.estimators.train import MAX_VAL_IMAGES
from mnas.study.objective import is_pareto

DEFAULT_TRIALS = 20
DEFAULT_BUDGET_S = 3600.0
SEARCH_SHARE = 0.55
"""Of the time left when the search begins; the rest trains the winner and the baselines."""
WANTED_CANDIDATES = 14
"""A time budget pays for so many whole candidates; with pruning it is about twice as many.

More of them would be trained so briefly that their order is chance.
"""
SUPERNET_SHARE, FINAL_SHARE = 0.4, 0.3
"""Of the time left when a supernet's training begins; the rest searches."""
MOST_EPOCHS = 10
"""A long time budget trains the supernet for at most so many times its recipe's epochs; the search takes the rest."""
FINETUNED_CANDIDATES = 24
"""A candidate's training on from inherited weights is made so short that a time budget pays for so many."""
SECONDS = 20.0
"""Where that takes no longer, every candidate is trained on; otherwise those that promise more than the median of
those which were, by inherited weights."""
EVAL_SPEEDUP = 3.0
"""Images are classified about so many times as fast as they are trained on."""
EXPORT_S = 20.0


@dataclass(frozen=True)
class Plan:
    """How the search spends its time."""

    trials: int | None
    search_s: float | None
    proxy: Recipe
    candidate_s: float
    """Expected seconds for one candidate."""
    final_s: float
    """Expected seconds for what follows the search: finalists, the winner and the baselines."""
    supernet: SupernetRecipe | None = None
    supernet_s: float = 0.0
    """Expected seconds for its training."""
    searches: int = 1
    """2 where as many random candidates follow the search's; `search_s` is each one's."""
    processes: int = 1
    """Each evaluates its part of the candidates."""
    select: bool = False
    """Whether what is hopeless by inherited weights is not trained on."""

    def expected_s(self) -> float:
        """Expected seconds for everything from now on."""
        search = self.candidate_s * -(-self.trials // self.processes) if self.trials else self.search_s or 0.0
        return self.supernet_s + self.searches * min(search, self.search_s or search) + self.final_s + EXPORT_S






def make_plan(
    data: ImageData, proxy: Recipe, recipe: Recipe, *, trials: int | None, left_s: float | None, networks: int,
    images_per_s: float, searches: int = 1,
) -> Plan:  # fmt: skip
    """Divide `left_s` seconds (None: no limit). Candidates get fewer images, then fewer epochs, if time is short."""
    train, val = len(data.train), min(len(data.val), MAX_VAL_IMAGES)
    if left_s is None:
        final_s = networks * epoch_s(data, recipe, images_per_s) * recipe.epochs
        return Plan(trials, None, proxy, candidate_s(proxy, train, val, images_per_s), final_s, searches=searches)
    usable = max(1.0, left_s - EXPORT_S)
    final_s = min(networks * epoch_s(data, recipe, images_per_s) * recipe.epochs, (1 - SEARCH_SHARE) * usable)
    search_s = (usable - final_s) / searches
    wanted_s = search_s / (min(trials, WANTED_CANDIDATES) if trials else WANTED_CANDIDATES)
    least = min(train, max(10 * proxy.batch_size, 20 * data.num_classes))
    while candidate_s(proxy, train, val, images_per_s) > wanted_s:
        images = min(train, proxy.images or train)
        if images > least:
            proxy = proxy.model_copy(update={"images": max(least, int(images * 0.8))})
        elif proxy.epochs > 1:
            proxy = proxy.model_copy(update={"epochs": proxy.epochs - 1})
        else:
            break
    return Plan(trials, search_s, proxy, candidate_s(proxy, train, val, images_per_s), final_s, searches=searches)


def make_supernet_plan(
    data: ImageData, config: RunConfig, *, trials: int | None, left_s: float | None, networks: int,
    images_per_s: float, sandwich_per_s: float, processes: int = 1,
    decided: tuple[Recipe, SupernetRecipe] | None = None, trained: bool = False,
) -> Plan:  # fmt: skip
    """Divide `left_s` seconds (None: no limit) among supernet, candidates, winner and baselines.

    A plain network trains at `images_per_s`, the supernet at `sandwich_per_s` in all `processes` together, which share
    the candidates too. `decided` are the recipes of candidates and supernet with which the run began earlier; it has
    `trained` the supernet already.
    """
    final_s = networks * epoch_s(data, config.recipe, images_per_s) * config.recipe.epochs
    usable = None if left_s is None else max(1.0, left_s - EXPORT_S)
    if usable is not None:
        final_s = min(final_s, FINAL_SHARE * usable)
    train, val = len(data.train), min(len(data.val), MAX_VAL_IMAGES)
    judged, searches = val + min(train, CALIBRATION_IMAGES), 1 + config.compare_random
    finalists = config.finalists * len(config.wanted_ms)
    supernet = decided[1] if decided else _affordable(data, config, usable, sandwich_per_s)
    supernet_s = 0.0 if trained else supernet.epochs * min(train, supernet.images or train) / sandwich_per_s
    search_s = None if usable is None else max(0.0, usable - final_s - supernet_s)
    proxy = decided[0] if decided else None
    if proxy is None:
        an_epoch, epochs = min(train, config.finetune.images or train), config.finetune_epochs
        if search_s is not None:
            in_turn = -(-min(trials or FINETUNED_CANDIDATES, FINETUNED_CANDIDATES) // processes)
            wanted_s = search_s / (searches * in_turn + finalists)
            epochs = min(epochs, max(0.0, (wanted_s * images_per_s - judged / EVAL_SPEEDUP) / an_epoch))
        proxy = partial(config.finetune, epochs, an_epoch)
    seen = proxy.epochs * min(train, proxy.images or train) if config.finetune_epochs else 0
    one_s = (seen + judged / EVAL_SPEEDUP) / images_per_s
    finalists_s = finalists * one_s if config.finetune_epochs else 0.0
    search_s = None if search_s is None else max(0.0, search_s - finalists_s) / searches
    return Plan(
        trials, search_s, proxy, one_s, final_s + finalists_s, supernet, supernet_s, searches, processes,
        # where only one of several processes could end a candidate early, equal ones would fare differently
        select=one_s > SECONDS and processes == 1 and not is_pareto(config.objective),
    )  # fmt: skip


def _affordable(
    data: ImageData, config: RunConfig, usable_s: float | None, sandwich_per_s: float
) -> SupernetRecipe:  # fmt: skip
    """The supernet's recipe with as many epochs, or images of one, as its share of the time pays for."""
    train, recipe = len(data.train), config.supernet
    images = min(train, recipe.images or train)
    if usable_s is None:
        return recipe
    most = recipe.epochs * (MOST_EPOCHS if config.budget_s else 1)
    affordable = SUPERNET_SHARE * usable_s * sandwich_per_s
    least = min(images, max(10 * recipe.batch_size, 20 * data.num_classes))
    images = max(least, min(images, int(affordable)))
    return recipe.model_copy(update={
        "epochs": max(1, min(most, int(affordable / images))), "images": None if images == train else images,
    })  # fmt: skip


def partial(recipe: Recipe, epochs: float, images: int) -> Recipe:
    """`recipe` for so many whole epochs of `images` images; what is less than one is an epoch of fewer images."""
    if epochs >= 1:
        return recipe.model_copy(update={"epochs": int(epochs)})
    return recipe.model_copy(update={"epochs": 1, "images": max(recipe.batch_size, int(epochs * images))})


def final_recipe(
    recipe: Recipe, data: ImageData, *, left_s: float | None, networks: int, images_per_s: float
) -> Recipe:
    """The recipe of winner and baselines, with as many of its epochs as the time left allows: at least one."""
    if left_s is None:
        return recipe
    fit_in = int((left_s - EXPORT_S) / (networks * epoch_s(data, recipe, images_per_s)))
    return recipe.model_copy(update={"epochs": max(1, min(recipe.epochs, fit_in))})


def epoch_s(data: ImageData, recipe: Recipe, images_per_s: float) -> float:
    """Seconds of one epoch of full training, validation included."""
    return (min(len(data.train), recipe.images or len(data.train)) + len(data.val) / EVAL_SPEEDUP) / images_per_s


def candidate_s(proxy: Recipe, train: int, val: int, images_per_s: float) -> float:
    """Seconds of one candidate: `train` and `val` images there are, of which the recipe takes some."""
    return proxy.epochs * (min(train, proxy.images or train) + val / EVAL_SPEEDUP) / images_per_s


def told(plan: Plan, config: RunConfig, train: int, own: bool) -> str:
    """What the search will do, in a sentence's first part; `train` images there are, `own` is a callable estimator."""
    until = " or ".join(filter(None, [
        f"{plan.trials} candidates are evaluated" if plan.trials else "",
        f"{duration(plan.search_s)} have passed" if plan.search_s else "",
    ])) + ", and then as many random ones" * (plan.searches > 1)  # fmt: skip
    images = min(train, plan.proxy.images or train)
    about = f"{plan.proxy.epochs} epoch(s) on {images} images (about {duration(plan.candidate_s)})"
    if own:
        return f"search until {until}, with your own estimator"
    if plan.supernet is not None:
        who = "a candidate that promises more than most" if plan.select else "a candidate"
        how = "a candidate is judged with inherited weights"
        if config.finetune_epochs:
            how = f"from inherited weights {who} trains on for {about}"
        first = "the supernet is trained"
        if plan.supernet_s:
            first = f"a supernet trains for {plan.supernet.epochs} epoch(s) (about {duration(plan.supernet_s)})"
        return f"{first}; search until {until}; {how}"
    if config.objective.accuracy == "zero_cost":
        return f"search until {until}, by the score {config.zero_cost}, untrained"
    return f"search until {until}; a candidate trains for {about}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 8 min, 2 h 10 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def now() -> float:
    """Seconds on the clock that all deadlines use."""
    return time.monotonic()
