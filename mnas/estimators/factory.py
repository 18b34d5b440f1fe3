"""The estimator that a run's configuration asks for."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable

from mnas.config import Recipe, RunConfig
from mnas.estimators import Estimator, Report
from mnas.estimators.probe import ProbeEstimator
from mnas.estimators.train import TrainEstimator
from mnas.estimators.weight_sharing import WeightSharing
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.recipe import fine_tuning
from mnas.training.trainer import Trainer

EstimatorCallable = Callable[..., float]
"""The user's own: `estimator(arch)` or `estimator(arch, report)` -> accuracy, 0..1."""


def make_estimator(
    config: RunConfig, space: SearchSpace, trainer: Trainer, own: EstimatorCallable | None,
    sharing: WeightSharing | None, proxy: Recipe, select: bool,
) -> Estimator:  # fmt: skip
    """The user's own, supernet, zero-cost scores or short trainings; `proxy` trains or fine-tunes a candidate."""
    if own is not None:
        return CallableEstimator(own)
    if sharing is not None:
        return sharing.estimator(proxy if config.finetune_epochs else None, select)
    if config.objective.accuracy == "zero_cost":
        return ZeroCostEstimator(space, trainer, config.zero_cost)
    if config.objective.accuracy == "probe":
        return ProbeEstimator(trainer)
    return TrainEstimator(trainer, fine_tuning(proxy, trainer.task.usual) if trainer.origins else proxy)


class CallableEstimator:
    """A callable of one argument, or of two (the second is `report`), as an estimator."""

    fidelity = "own"
    images: int | None = None

    def __init__(self, estimator: EstimatorCallable):
        self._estimator, self._reports = estimator, False
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(estimator).parameters.values()
            positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
            self._reports = sum(p.default is p.empty for p in positional) > 1

    def __call__(self, arch: Architecture, report: Report) -> float:
        return self._estimator(arch, report) if self._reports else self._estimator(arch)
