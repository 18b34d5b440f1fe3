"""A recipe as an optimizer and a learning-rate schedule."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

from mnas.config import Recipe
from mnas.data.sources import ImageData

R = TypeVar("R", bound=Recipe)


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; no weight decay on biases and batch normalisation."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = next(network.parameters()).device.type in ("cpu", "cuda")  # one pass over the weights: four times as fast
    return torch.optim.SGD(
        groups, lr=peak_lr(recipe), momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused
    )


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
