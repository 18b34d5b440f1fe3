"""Training and judging networks on one data set: every training of a run goes through a `Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from mnas.config import Recipe
from mnas.data.sources import ImageData
from mnas.nn.network import Network
from mnas.nn.origin import Origin, best_origin
from mnas.space.architecture import Architecture
from mnas.space.dense import classes_of
from mnas.tasks.classification import Classification, Metric
from mnas.tasks.task import Grade, Part, Place, Task
from mnas.training.judgement import Judgement
from mnas.training.loop import Epoch, Setting, Training
from mnas.training.memory import parts_of
from mnas.training.precision import Precision
from mnas.training.sizes import FULL_SIZE, TrainingSizes

Delivers = Callable[[Network, Architecture], nn.Module]
"""Makes a module on the CPU that computes what a network's file does, such as one in int8."""


@dataclass(frozen=True)
class Trainer:
    """Trains and judges networks: the task, the size of each architecture's images, the device, the seed."""

    task: Task
    sizes: TrainingSizes
    device: torch.device
    seed: int
    precision: Precision = "float32"
    """Of training; networks are judged in float32, on CUDA in bfloat16 where that need not be exact."""

    origins: tuple[Origin, ...] = ()
    """Trained networks from whose weights those of the same design start."""

    delivers: Delivers | None = None
    """Makes what is handed over of a network: exact judgements are of that. None: the network itself."""

    @property
    def classification(self) -> Classification:
        """The task, where it is this one."""
        assert isinstance(self.task, Classification), self.task.name
        return self.task

    @property
    def data(self) -> ImageData:
        """The images of a classification."""
        return self.classification.data

    @property
    def metric(self) -> Metric:
        """What `accuracy` and the standing of a full training give for a classification."""
        return self.classification.metric

    def origin_of(self, arch: Architecture) -> Origin | None:
        """The trained network from whose weights one of `arch` starts; None where none fits."""
        return best_origin(self.origins, arch)

    def at_full_size(self) -> Trainer:
        """The same trainer with each architecture at its own resolution."""
        return replace(self, sizes=FULL_SIZE)

    def build(self, arch: Architecture, dropout: float = 0.0) -> nn.Module:
        """A network for the task's data, with an origin's weights or fresh ones, which the seed decides."""
        torch.manual_seed(self.seed)
        return self.task.build(arch, dropout, self.origin_of(arch))

    def fit(self, network: nn.Module, arch: Architecture, recipe: Recipe) -> Iterator[Epoch]:
        """Train `network` in place on the training split, or as many images of it as the recipe allows."""
        return self.training(network, arch, recipe).rest()

    def training(self, network: nn.Module, arch: Architecture, recipe: Recipe) -> Training:
        """The training of `fit`, step by step."""
        task, size = self.task.limited(train=recipe.images, seed=self.seed), self.sizes.of(arch)
        parts = parts_of(min(recipe.batch_size, task.images), arch, size, self.device, task.outputs)
        setting = Setting(size, self.device, self.seed, classes_of(task.outputs), self.precision, parts)
        return Training(network, task.lessons(recipe, setting), recipe, setting)

    def finish(self, network: nn.Module, arch: Architecture, images: int) -> None:
        """Set batch normalisation's statistics from this number of training images."""
        self.task.recalibrate(network, images, self._place(arch))

    def accuracy(
        self, network: nn.Module, arch: Architecture, split: Part = "val", *, exact: bool = False
    ) -> float:  # fmt: skip
        """The task's figure (0..1) on a split; `exact` in float32, as the exported network computes."""
        return self.task.value(network, split, self._place(arch), exact=exact)

    def judge(
        self, network: nn.Module, arch: Architecture, split: Part = "val", *, exact: bool = False
    ) -> Judgement:  # fmt: skip
        """The accuracy of a classification, image by image.

        Where a network is handed over as another file, `exact` is what that says.
        """
        network, place = self._delivered(network, arch) if exact else (network, self._place(arch))
        return self.classification.judge(network, split, place, exact=exact)

    def grade(self, network: nn.Module, arch: Architecture) -> Grade:
        """How what is handed over of a network does on the search-validation split, exactly."""
        return self.task.grade(*self._delivered(network, arch))

    def limited(self, *, train: int | None = None, val: int | None = None, seed: int | None = None) -> Trainer:
        """The same trainer on at most these numbers of images, drawn evenly from the classes."""
        return replace(self, task=self.task.limited(train=train, val=val, seed=self.seed if seed is None else seed))

    def _place(self, arch: Architecture) -> Place:
        return Place(self.sizes.of(arch), self.device)

    def _delivered(self, network: nn.Module, arch: Architecture) -> tuple[nn.Module, Place]:
        """What is handed over of a network, and where it is judged."""
        if self.delivers is not None and isinstance(network, Network):
            return self.delivers(network, arch), Place(arch.resolution, torch.device("cpu"))
        return network, self._place(arch)
