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
    return torch.optim.SGD(groups, lr=peak_lr(recipe), momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def with_flip(recipe: R, data: ImageData) -> R:
    """`recipe` with `flip` decided: as the data allows, unless it is stated."""
    return recipe if recipe.flip is not None else recipe.model_copy(update={"flip": data.flip})


def peak_lr(recipe: Recipe) -> float:
    """The largest learning rate: the recipe's, scaled linearly with the batch size (arXiv 1706.02677)."""
    return recipe.lr * recipe.batch_size / 128


def lr_at(progress: float, recipe: Recipe) -> float:
    """The learning rate after a fraction `progress` (0..1) of the steps: linear warm-up, then half a cosine to zero."""
    if progress < recipe.warmup:
        return peak_lr(recipe) * progress / recipe.warmup
    return peak_lr(recipe) * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))
