"""Samplers by name."""

from __future__ import annotations

import warnings

import optuna

from mnas.errors import BadInput, nearest

SAMPLERS = ("tpe", "nsga2", "gp", "random")


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """One of Optuna's samplers by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":  # multivariate, since layers interact; grouped, since some exist only at some depths
                return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=16)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
    raise BadInput(f"unknown sampler '{name}'{nearest(name, SAMPLERS)}")
