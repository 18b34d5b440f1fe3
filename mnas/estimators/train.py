"""MnasNet's proxy task: a candidate's accuracy is what a short training of its own reaches (arXiv 1807.11626)."""

from __future__ import annotations

from mnas.config import Recipe
from mnas.estimators import Report
from mnas.space.architecture import Architecture
from mnas.training.trainer import Trainer

STATISTICS_IMAGES = 512
"""Training images from which a candidate's batch normalisation gets its statistics, after each epoch."""
MAX_VAL_IMAGES = 10_000
"""Enough to measure an accuracy to a third of a percentage point."""


class TrainEstimator:
    """Trains each candidate by `recipe` from the same seed, and validates it after each epoch."""

    fidelity = "trained"

    def __init__(self, trainer: Trainer, recipe: Recipe):
        self._trainer = trainer.limited(train=recipe.images, val=MAX_VAL_IMAGES)
        self.images: int | None = self._trainer.task.counted
        self._recipe = recipe.model_copy(update={"images": None})

    def __call__(self, arch: Architecture, report: Report) -> float:
        """Accuracy on the search-validation split after the last epoch; `report` may raise Pruned after any epoch."""
        trainer = self._trainer
        network = trainer.build(arch, self._recipe.dropout)
        accuracy = 0.0
        for epoch in trainer.fit(network, arch, self._recipe):
            trainer.finish(network, arch, STATISTICS_IMAGES)
            accuracy = trainer.accuracy(network, arch)
            report(epoch.number, accuracy)
        return accuracy
