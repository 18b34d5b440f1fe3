"""Where the accuracies of a run's candidates come from, in each of its processes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import torch

from mnas.config import Recipe, RunConfig
from mnas.estimators import Estimator, Report
from mnas.estimators.train import TrainEstimator
from mnas.estimators.weight_sharing import WeightSharing
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.task import Task

EstimatorCallable = Callable[..., float]


def accuracy_source(
    config: RunConfig, own: EstimatorCallable | None, space: SearchSpace, task: Task, device: torch.device,
    sharing: WeightSharing | None, proxy: Recipe, select: bool,
) -> Estimator:  # fmt: skip
    """The user's own callable, the supernet, zero-cost scores, or short trainings by the recipe `proxy`."""
    if own is not None:
        return _Own(own)
    if sharing is not None:
        return sharing.estimator(proxy if config.finetune_epochs else None, select)
    about: dict[str, Any] = {"size_of": task.size_of, "device": device, "seed": config.seed}
    if config.objective.accuracy == "zero_cost":
        return ZeroCostEstimator(space, task.data, config.zero_cost, **about)
    return TrainEstimator(task.data, proxy, **about)


class _Own:
    """A callable of one argument, or of two (the second is `report`), as an estimator."""

    grade = "own"

    def __init__(self, estimator: EstimatorCallable):
        self._estimator, self._reports = estimator, False
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(estimator).parameters.values()
            positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            self._reports = sum(p.default is p.empty for p in positional) > 1

    def __call__(self, arch: Architecture, report: Report) -> float:
        return self._estimator(arch, report) if self._reports else self._estimator(arch)
