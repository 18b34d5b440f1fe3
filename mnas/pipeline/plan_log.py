"""A plan in words, for the log."""

from __future__ import annotations

import logging

from mnas.config import RunConfig
from mnas.monitor.figures import BEST, count
from mnas.pipeline.clock import duration
from mnas.pipeline.context import Context
from mnas.pipeline.plan import Plan, most_epochs
from mnas.space.dense import under

log = logging.getLogger("mnas")

ZERO_COST = {
    "naswot": "how differently an untrained network sees different images",
    "synflow": "how much an untrained network lets through",
    "madds": "multiply-adds",
    "params": "parameters",
}
"""What the scores say, in words."""


def log_plan(plan: Plan, context: Context, own_estimator: bool) -> None:
    """Log what the search is going to do, and how long it is expected to take."""
    config = context.config
    best, outputs = BEST[context.trainer.task.figure], context.trainer.task.outputs
    goal = "the Pareto front" if config.targets[0].latency_ms is None else f"{best} within " + (
        " and ".join(
            f"{'/'.join(f'{ms:g}' for ms in config.budgets_ms or (source.budget_ms,))} ms "
            f"({source.runtime} on {source.device})"
            for source in context.latency.devices
        )
    )
    log.info("space %s: %.3g networks; searching for %s", under(context.space.name, outputs), context.space.size, goal)
    if context.space.file.without:
        name, reference = context.space.rival(context.space.reference)
        log.info(
            "the reference networks take part without these choices too: %s is %s", name,
            "in the space" if reference in context.space else "not in the space",
        )  # fmt: skip
    log.info(
        "%s; then the best of them and the references scaled to the budget race for up to %s; about %s in total "
        "from now", in_words(plan, config, len(context.data.train), own_estimator),
        count(most_epochs(config.recipe), "epoch"), duration(plan.expected_s()),
    )  # fmt: skip


def in_words(plan: Plan, config: RunConfig, train: int, own_estimator: bool) -> str:
    """What the search is going to do; `train` is the number of training images."""
    until = "up to " + " or ".join(filter(None, [
        count(plan.trials, "candidate") if plan.trials else "", duration(plan.search_s) if plan.search_s else "",
    ])) + ", then as many random candidates" * (plan.searches > 1)  # fmt: skip
    recipe = plan.candidate.recipe
    images = min(train, recipe.images or train)
    training = f"{count(recipe.epochs, 'epoch')} on {images} images (about {duration(plan.candidate.seconds)})"
    if own_estimator:
        return f"search: {until}, with your own estimator"
    if plan.supernet is not None:
        candidate = "each promising candidate" if plan.candidate.select else "each candidate"
        estimate = "candidates are evaluated with inherited weights"
        if config.finetune_epochs:
            estimate = f"{candidate} is fine-tuned from inherited weights for {training}"
        first = "the supernet is trained"
        if plan.supernet.seconds:
            epochs, seconds = plan.supernet.recipe.epochs, plan.supernet.seconds
            first = f"a supernet is trained for {count(epochs, 'epoch')} (about {duration(seconds)})"
        return f"{first}; search: {until}; {estimate}"
    if config.objective.accuracy == "probe":
        return f"search: {until}, by a linear classifier on the features that each has from the trained weights"
    if config.objective.accuracy == "zero_cost":
        return f"search: {until}, by the zero-cost score {config.zero_cost} ({ZERO_COST[config.zero_cost]})"
    return f"search: {until}; each candidate is trained for {training}"
