"""Optuna samplers by name: mnas's own, which keep within a cost that is known in advance, and Optuna's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial

from mnas.errors import BadInput, nearest
from mnas.samplers.costs import Cost
from mnas.samplers.evolution import EvolutionSampler
from mnas.samplers.predictor import PredictorSampler

__all__ = ["SAMPLERS", "EvolutionSampler", "PredictorSampler", "make_sampler"]

SAMPLERS = ("predictor", "evolution", "tpe", "nsga2", "gp", "random")


def make_sampler(
    name: str, seed: int, finished: int = 0, *, known_cost: Cost | None = None, budget: float | None = None,
    examples: Callable[[], Sequence[FrozenTrial]] = tuple, counted: int | None = None,
) -> optuna.samplers.BaseSampler:  # fmt: skip
    """A sampler by name, for a study with `finished` trials; BadInput for an unknown name.

    `known_cost`, `budget` and `examples` are ChoiceSampler's, `counted` is PredictorSampler's; Optuna's own samplers do
    not use them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "predictor":
                return PredictorSampler(
                    seed=seed, known_cost=known_cost, budget=budget, examples=examples(), counted=counted
                )
            case "evolution":
                return EvolutionSampler(seed=seed, known_cost=known_cost, budget=budget, examples=examples())
            case "tpe":  # multivariate, since layers interact; grouped, since some exist only at some depths
                return optuna.samplers.TPESampler(seed=seed + finished, multivariate=True, group=True)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed + finished, population_size=16)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed + finished)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed + finished)
    raise BadInput(f"unknown sampler '{name}'{nearest(name, SAMPLERS)}")
