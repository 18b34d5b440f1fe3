"""A small conditional space in plain Optuna, as architectures are: a layer's choices exist where the layer does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import optuna

from mnas.samplers import EvolutionSampler, PredictorSampler

BOTH = [PredictorSampler, EvolutionSampler]
MakeSampler = Callable[..., optuna.samplers.BaseSampler]

KERNELS, ACTIVATIONS, DEPTH = [3, 5, 7], ["relu", "hard_swish"], (1, 3)


def network(trial: optuna.Trial) -> dict[str, Any]:
    """A conditional space, as architectures are: a layer's choices exist where the layer does. 294 points."""
    trial.suggest_categorical("activation", ACTIVATIONS)
    depth = trial.suggest_int("depth", *DEPTH)
    for layer in range(depth):
        trial.suggest_categorical(f"kernel{layer}", KERNELS)
        if layer and trial.params[f"kernel{layer}"] == 7:
            trial.suggest_categorical(f"squeeze{layer}", [True, False])
    return trial.params


def milliseconds(params: dict[str, Any]) -> float:
    return 1.0 + sum(params[f"kernel{layer}"] ** 1.5 / 10 for layer in range(params["depth"]))


def accuracy(params: dict[str, Any]) -> float:
    kernels = sum({3: 0.0, 5: 2.0, 7: 2.5}[params[f"kernel{layer}"]] for layer in range(params["depth"]))
    squeezed = sum(value is True for name, value in params.items() if name.startswith("squeeze"))
    return 80 + kernels + 0.7 * squeezed + (params["activation"] == "hard_swish") * (1 + 0.3 * params["depth"])


def points() -> list[dict[str, Any]]:
    """Every point of the space."""
    found = []
    for activation, depth in itertools.product(ACTIVATIONS, range(DEPTH[0], DEPTH[1] + 1)):
        for kernels in itertools.product(KERNELS, repeat=depth):
            squeezes = [i for i, kernel in enumerate(kernels) if i and kernel == 7]
            for values in itertools.product([True, False], repeat=len(squeezes)):
                found.append(
                    {"activation": activation, "depth": depth}
                    | {f"kernel{i}": kernel for i, kernel in enumerate(kernels)}
                    | {f"squeeze{i}": value for i, value in zip(squeezes, values, strict=True)}
                )
    return found


def key(params: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(params.items()))


def studied(sampler: optuna.samplers.BaseSampler, trials: int, **options: Any) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, **options or {"direction": "maximize"})
    study.optimize(lambda trial: accuracy(network(trial)), n_trials=trials)
    return study
