"""Optuna samplers: mnas's own, which know costs before they are paid, and Optuna's by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial

from mnas.errors import BadInput, nearest
from mnas.samplers.base import Cost
from mnas.samplers.evolution import EvolutionSampler
from mnas.samplers.predictor import PredictorSampler

__all__ = ["SAMPLERS", "EvolutionSampler", "PredictorSampler", "make_sampler"]

SAMPLERS = ("predictor", "evolution", "tpe", "nsga2", "gp", "random")


def make_sampler(
    name: str, seed: int, done: int = 0, *, known_cost: Cost | None = None, budget: float | None = None,
    examples: Callable[[], Sequence[FrozenTrial]] = tuple,
) -> optuna.samplers.BaseSampler:  # fmt: skip
    """A sampler by name, for a study of `done` trials; the costs, the budget and the examples are for mnas's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "predictor":
                return PredictorSampler(seed=seed, known_cost=known_cost, budget=budget, examples=examples())
            case "evolution":
                return EvolutionSampler(seed=seed, known_cost=known_cost, budget=budget, examples=examples())
            case "tpe":  # multivariate, since layers interact; grouped, since some exist only at some depths
                return optuna.samplers.TPESampler(seed=seed + done, multivariate=True, group=True)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed + done, population_size=16)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed + done)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed + done)
    raise BadInput(f"unknown sampler '{name}'{nearest(name, SAMPLERS)}")
