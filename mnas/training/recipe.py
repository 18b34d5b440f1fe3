"""A recipe as an optimizer and a learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from mnas.config import Recipe
from mnas.data.sources import ImageData

R = TypeVar("R", bound=Recipe)


@runtime_checkable
class Layered(Protocol):
    """A network whose layers may be trained at rates of their own."""

    def in_order(self) -> list[nn.Module]:
        """From the stem to the classifier, or the head."""


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; no weight decay on biases and batch normalisation.

    Each group has its `scale`, by which its learning rate is multiplied, and says whether it is the `classifier`'s.
    """
    groups: list[dict[str, Any]] = []
    for depth, (layer, is_classifier) in enumerate(_layers(network, recipe)):
        decayed = [p for p in layer if p.ndim > 1]
        others = [p for p in layer if p.ndim <= 1]
        common = {"scale": recipe.layer_decay**depth, "classifier": is_classifier}
        groups += [
            {"params": params, "weight_decay": weight_decay, **common}
            for params, weight_decay in ((decayed, recipe.weight_decay), (others, 0.0)) if params
        ]  # fmt: skip
    fused = next(network.parameters()).device.type in ("cpu", "cuda")  # one pass over the weights: four times as fast
    sgd = torch.optim.SGD(
        groups, lr=peak_lr(recipe), momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused
    )
    for parameter in network.parameters() if recipe.momentum else ():
        # torch makes them in the first step, but fused not for a parameter whose first gradient comes later
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _layers(network: nn.Module, recipe: Recipe) -> list[tuple[list[nn.Parameter], bool]]:
    """The parameters by layer, the last first, and whether they are the classifier's; all in one if that does."""
    if (recipe.layer_decay == 1 and not recipe.classifier_first) or not isinstance(network, Layered):
        return [(list(network.parameters()), False)]
    layers = network.in_order()
    return [(list(layer.parameters()), layer is layers[-1]) for layer in reversed(layers)]


def set_lr(optimizer: torch.optim.Optimizer, progress: float, recipe: Recipe) -> None:
    """Set the learning rates after a fraction `progress` (0..1) of the steps, and start or stop gradients."""
    alone = progress < recipe.classifier_first
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * lr_at(progress, recipe)
        trained = not alone or group["classifier"]
        if group["params"][0].requires_grad != trained:
            for parameter in group["params"]:
                parameter.requires_grad_(trained)


FINE_TUNING: Mapping[str, Any] = {"lr": 0.1, "classifier_first": 0.05, "trivial_augment": False}
"""What differs in a recipe that starts from trained weights, where it has the default: half the rate, no strong
augmentation. Rates that fall from layer to layer (layer_decay) were worse (benchmarks/recipe_parts.py --init)."""


def fine_tuning(recipe: R, usual: Mapping[str, Any] = {}) -> R:
    """`recipe` for a network that starts from trained weights: what was stated, other than the default, is kept.

    `usual` has the keys in which the task's default differs from that of recipes.
    """
    default = type(recipe)(**usual)
    changes = {key: value for key, value in FINE_TUNING.items() if getattr(recipe, key) == getattr(default, key)}
    return recipe.model_copy(update=changes)


TRIVIAL_EPOCHS = 60
"""TrivialAugment is worth its noise where each image is seen so often (benchmarks/recipe_parts.py)."""


def with_flip(recipe: R, data: ImageData) -> R:
    """`recipe` with `flip` decided: as the data allows, unless it is stated."""
    return recipe if recipe.flip is not None else recipe.model_copy(update={"flip": data.flip})


def augments_trivially(recipe: Recipe) -> bool:
    """Whether TrivialAugment is used: as stated, or by the number of epochs."""
    return recipe.epochs >= TRIVIAL_EPOCHS if recipe.trivial_augment is None else recipe.trivial_augment


def lengthened(recipe: R, images: int) -> R:
    """`recipe` with as many epochs on `images` training images as its least number of steps needs.

    A number of epochs that was stated, other than the default, is kept.
    """
    if recipe.epochs != Recipe().epochs:
        return recipe
    steps = steps_an_epoch(recipe, images)
    return recipe.model_copy(update={"epochs": max(recipe.epochs, -(-recipe.min_steps // steps))})


LONGEST_EPOCHS, LONGEST_STEPS = 100, 10_000
"""The longer of the two is the longest training for which a time budget is used."""


def prolonged(recipe: R, images: int) -> R:
    """`lengthened`, with `max_epochs` decided: as stated, or else the longest training if `epochs` is the default."""
    needed = lengthened(recipe, images)
    most = recipe.epochs
    if recipe.epochs == Recipe().epochs:
        most = max(LONGEST_EPOCHS, needed.epochs, -(-LONGEST_STEPS // steps_an_epoch(recipe, images)))
    return needed.model_copy(update={"max_epochs": recipe.max_epochs or most})


def steps_an_epoch(recipe: Recipe, images: int) -> int:
    """Steps in which an epoch on `images` training images is trained."""
    return max(1, min(images, recipe.images or images) // recipe.batch_size)


def peak_lr(recipe: Recipe) -> float:
    """The largest learning rate: the recipe's, scaled linearly with the batch size (arXiv 1706.02677)."""
    return recipe.lr * recipe.batch_size / 128


def lr_at(progress: float, recipe: Recipe) -> float:
    """The learning rate after a fraction `progress` (0..1) of the steps: linear warm-up, then half a cosine to zero."""
    if progress < recipe.warmup:
        return peak_lr(recipe) * progress / recipe.warmup
    return peak_lr(recipe) * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))
