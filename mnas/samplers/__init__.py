"""Optuna samplers by name: mnas's own, which keep within a cost that is known in advance, and Optuna's."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial

from mnas.errors import BadInput, nearest
from mnas.samplers.seeded import SeededSampler

if TYPE_CHECKING:
    from mnas.samplers.costs import Cost
    from mnas.samplers.evolution import EvolutionSampler
    from mnas.samplers.predictor import PredictorSampler

# these import scikit-learn, which takes seconds, so they are loaded on first use
_LAZY = {"EvolutionSampler": "evolution", "PredictorSampler": "predictor"}

__all__ = ["SAMPLERS", "EvolutionSampler", "PredictorSampler", "make_sampler"]

SAMPLERS = ("predictor", "evolution", "tpe", "nsga2", "gp", "random")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mnas.samplers' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"mnas.samplers.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def make_sampler(
    name: str, seed: int, *, known_cost: Cost | None = None, budget: float | None = None,
    examples: Callable[[], Sequence[FrozenTrial]] = tuple, counted: int | None = None,
) -> optuna.samplers.BaseSampler:  # fmt: skip
    """A sampler by name; BadInput for an unknown one. Its proposals depend on `seed` and the study's trials only.

    `known_cost`, `budget` and `examples` are ChoiceSampler's, `counted` is PredictorSampler's; Optuna's own samplers do
    not use them.
    """
    match name:
        case "predictor":
            from mnas.samplers.predictor import PredictorSampler

            return PredictorSampler(
                seed=seed, known_cost=known_cost, budget=budget, examples=examples(), counted=counted
            )
        case "evolution":
            from mnas.samplers.evolution import EvolutionSampler

            return EvolutionSampler(seed=seed, known_cost=known_cost, budget=budget, examples=examples())
        case "tpe":  # multivariate, since layers interact; grouped, since some exist only at some depths
            return _seeded(optuna.samplers.TPESampler, seed, multivariate=True, group=True)
        case "nsga2":
            return _seeded(optuna.samplers.NSGAIISampler, seed, population_size=16)
        case "gp":
            return _seeded(optuna.samplers.GPSampler, seed)
        case "random":
            return _seeded(optuna.samplers.RandomSampler, seed)
    raise BadInput(f"unknown sampler '{name}'{nearest(name, SAMPLERS)}")


def _seeded(sampler: Callable[..., optuna.samplers.BaseSampler], seed: int, **options: Any) -> SeededSampler:
    def make(seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return sampler(seed=seed, **options)

    return SeededSampler(make, seed)
