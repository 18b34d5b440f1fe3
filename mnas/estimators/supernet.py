"""A candidate's accuracy with the weights that it inherits from a trained supernet, in two grades."""

from __future__ import annotations

import torch

from mnas.config import Recipe
from mnas.data.sources import ImageData
from mnas.data.splits import Split, limited
from mnas.estimators import Report
from mnas.estimators.train import MAX_VAL_IMAGES
from mnas.nn.network import Network
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.training.loop import accuracy, fit, recalibrate
from mnas.training.recipe import flips
from mnas.training.supernet import SizeOf

CALIBRATION_IMAGES = 1024
INHERITED, FINE_TUNED = "inherited", "fine-tuned"


class SupernetEstimator:
    """Judges a candidate as it inherits its weights, and after a short training from there by the recipe `finetune`.

    Batch normalisation's statistics are the candidate's own, from training images. Without `finetune` the first grade
    is all; with `select` it is reported first, so that the search may end what is hopeless before the second is paid.
    """

    grade = INHERITED
    """Of the last estimate."""

    def __init__(
        self, supernet: Supernet, data: ImageData, finetune: Recipe | None, *, size_of: SizeOf, device: torch.device,
        seed: int, select: bool = False,
    ):  # fmt: skip
        self.supernet = supernet
        self._calibration: Split = limited(data.train, CALIBRATION_IMAGES, 0)
        self._val: Split = limited(data.val, MAX_VAL_IMAGES, seed)
        self._tuned: Split = data.train if finetune is None else limited(data.train, finetune.images, seed)
        self._data, self._finetune, self._size_of, self._select = data, finetune, size_of, select
        self._device, self._seed = device, seed
        self._known: dict[tuple[Architecture, str], float] = {}

    def __call__(self, arch: Architecture, report: Report) -> float:
        """Accuracy on the search-validation split, of the highest grade asked for; `report` may raise Pruned."""
        if self._finetune is None:
            return self.inherited(arch)
        if self._select:
            report(0, self.inherited(arch))
        return self.fine_tuned(arch)

    def inherited(self, arch: Architecture) -> float:
        """Accuracy with the supernet's weights."""
        self.grade = INHERITED
        if (arch, INHERITED) not in self._known:
            self._known[arch, INHERITED] = self._judge(self.supernet.extract(arch), arch)
        return self._known[arch, INHERITED]

    def fine_tuned(self, arch: Architecture) -> float:
        """Accuracy after the short training."""
        assert self._finetune is not None
        self.grade = FINE_TUNED
        if (arch, FINE_TUNED) not in self._known:
            network, recipe = self.supernet.extract(arch), self._finetune
            for _ in fit(
                network, self._tuned, recipe, size=self._size_of(arch),
                flip=flips(recipe, self._data.flip), device=self._device, seed=self._seed,
            ):  # fmt: skip
                pass
            self._known[arch, FINE_TUNED] = self._judge(network, arch)
        return self._known[arch, FINE_TUNED]

    def _judge(self, network: Network, arch: Architecture) -> float:
        size = self._size_of(arch)
        recalibrate(network, self._calibration, images=CALIBRATION_IMAGES, size=size, device=self._device)
        return accuracy(network, self._val, size=size, device=self._device)
