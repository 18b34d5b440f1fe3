"""MnasNet's proxy task: a candidate's accuracy is what a short training of its own reaches (arXiv 1807.11626)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mnas.config import Recipe
from mnas.data.sources import ImageData
from mnas.data.splits import Split, limited
from mnas.estimators import Report
from mnas.nn.network import build
from mnas.space.architecture import Architecture
from mnas.training.loop import accuracy, fit, recalibrate
from mnas.training.recipe import flips

CALIBRATION_IMAGES = 512
MAX_VAL_IMAGES = 10_000
"""Enough to know an accuracy to a third of a point; more would cost more than they tell."""


class TrainEstimator:
    """Trains each candidate by `recipe` from the same seed, and validates it after each epoch."""

    grade = "trained"

    def __init__(
        self, data: ImageData, recipe: Recipe, *, size_of: Callable[[Architecture], int], device: torch.device,
        seed: int,
    ):  # fmt: skip
        self._train: Split = limited(data.train, recipe.images, seed)
        self._val: Split = limited(data.val, MAX_VAL_IMAGES, seed)
        self._data, self._recipe, self._size_of = data, recipe, size_of
        self._device, self._seed = device, seed

    def __call__(self, arch: Architecture, report: Report) -> float:
        """Accuracy on the search-validation split after the last epoch; `report` may raise Pruned after any."""
        size = self._size_of(arch)
        torch.manual_seed(self._seed)
        network = build(arch, self._data.num_classes, self._recipe.dropout)
        reached = 0.0
        flip = flips(self._recipe, self._data.flip)
        for epoch in fit(
            network, self._train, self._recipe, size=size, flip=flip, device=self._device, seed=self._seed
        ):
            recalibrate(network, self._train, images=CALIBRATION_IMAGES, size=size, device=self._device)
            reached = accuracy(network, self._val, size=size, device=self._device)
            report(epoch.number, reached)
        return reached
