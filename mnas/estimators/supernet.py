"""A candidate's accuracy with the weights that it inherits from a trained supernet, as they are or fine-tuned."""

from __future__ import annotations

from torch import nn

from mnas.config import Recipe
from mnas.estimators import Report
from mnas.estimators.train import MAX_VAL_IMAGES
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.training.trainer import Trainer

STATISTICS_IMAGES = 1024
"""Training images from which a subnet's batch normalisation gets its statistics."""
INHERITED, FINE_TUNED = "inherited", "fine-tuned"


class SupernetEstimator:
    """Evaluates a candidate with inherited weights, and after a short training from there by the recipe `finetune`.

    Batch normalisation's statistics are the candidate's own, from training images. Without `finetune` only inherited
    weights are evaluated. With `select` their accuracy is reported first, so that the search may stop a candidate
    before it is fine-tuned.
    """

    fidelity = INHERITED
    """The fidelity of the last estimate."""

    def __init__(self, supernet: Supernet, trainer: Trainer, finetune: Recipe | None, *, select: bool = False):
        self.supernet, self._select = supernet, select
        self._trainer = trainer.limited(val=MAX_VAL_IMAGES)
        self.images: int | None = self._trainer.task.counted
        self._finetune = None if finetune is None else finetune.model_copy(update={"images": None})
        self._finetune_trainer = trainer.limited(train=finetune.images if finetune else None)
        self._calibration_trainer = trainer.limited(train=STATISTICS_IMAGES, seed=0)
        self._estimates: dict[tuple[Architecture, str], float] = {}

    def __call__(self, arch: Architecture, report: Report) -> float:
        """Accuracy on the search-validation split, at the highest fidelity configured; `report` may raise Pruned."""
        if self._finetune is None:
            return self.inherited(arch)
        if self._select:
            report(0, self.inherited(arch))
        return self.fine_tuned(arch)

    def inherited(self, arch: Architecture) -> float:
        """Accuracy with the supernet's weights."""
        self.fidelity = INHERITED
        if (arch, INHERITED) not in self._estimates:
            self._estimates[arch, INHERITED] = self._accuracy(self.supernet.extract(arch), arch)
        return self._estimates[arch, INHERITED]

    def fine_tuned(self, arch: Architecture) -> float:
        """Accuracy after the short training."""
        assert self._finetune is not None
        self.fidelity = FINE_TUNED
        if (arch, FINE_TUNED) not in self._estimates:
            network = self.supernet.extract(arch)
            for _ in self._finetune_trainer.fit(network, arch, self._finetune):
                pass
            self._estimates[arch, FINE_TUNED] = self._accuracy(network, arch)
        return self._estimates[arch, FINE_TUNED]

    def _accuracy(self, network: nn.Module, arch: Architecture) -> float:
        self._calibration_trainer.finish(network, arch, STATISTICS_IMAGES)
        return self._trainer.accuracy(network, arch)
