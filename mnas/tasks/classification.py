"""Classification: images of one class each, a classifier, cross entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mnas.config import Recipe, SupernetRecipe
from mnas.data.loader import batches
from mnas.data.sources import ImageData
from mnas.data.splits import Split, limited
from mnas.nn.network import Network, build
from mnas.nn.origin import Origin
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.tasks.task import Grade, Part, Place
from mnas.training.judgement import Judgement, judge
from mnas.training.lessons import ClassLessons
from mnas.training.loop import Setting, accuracy, recalibrate
from mnas.training.recipe import with_flip
from mnas.training.sandwich import ClassSandwich

Metric = Literal["accuracy", "balanced"]


@dataclass(frozen=True)
class Classification:
    """The task of `mnas.tasks.task.Task` for images in classes."""

    data: ImageData
    metric: Metric = "accuracy"
    """The value by which networks are ranked; balanced: the mean of the classes' recalls."""
    name = "classification"
    figure = "accuracy"
    usual: ClassVar[Mapping[str, Any]] = {}
    probed = True

    @property
    def outputs(self) -> int:
        return self.data.num_classes

    @property
    def counted(self) -> int:
        return len(self.data.val)

    @property
    def images(self) -> int:
        return len(self.data.train)

    def limited(self, *, train: int | None = None, val: int | None = None, seed: int) -> Classification:
        """The same task on at most these numbers of images, drawn evenly from the classes."""
        data = self.data
        return replace(self, data=replace(
            data, train=limited(data.train, train, seed), val=limited(data.val, val, seed)
        ))  # fmt: skip

    def build(self, arch: Architecture, dropout: float, origin: Origin | None) -> Network:
        network = build(arch, self.data.num_classes, dropout)
        if origin is not None:
            origin.fill(network, arch)
        return network

    def pixels(self, images: int, place: Place, seed: int) -> Tensor:
        drawn = batches(
            self.data.train, batch_size=images, size=place.size, device=place.device,
            generator=torch.Generator().manual_seed(seed), workers=0,
        )  # fmt: skip
        # one batch is not worth starting processes
        return next((raw for raw, _ in drawn), torch.empty(0))

    def lessons(self, recipe: Recipe, setting: Setting) -> ClassLessons:
        return ClassLessons(self.data.train, with_flip(recipe, self.data), setting)

    def supernet(self, space: SearchSpace, kernel_transforms: bool) -> Supernet:
        return Supernet(space, self.data.num_classes, kernel_transforms)

    def supernet_lessons(self, recipe: SupernetRecipe, setting: Setting) -> ClassSandwich:
        return ClassSandwich(self.data.train, with_flip(recipe, self.data), setting)

    def recalibrate(self, network: nn.Module, images: int, place: Place) -> None:
        recalibrate(network, self.data.train, images=images, size=place.size, device=place.device)

    def value(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> float:
        if self.metric == "balanced":
            return self.judge(network, part, place, exact=exact).balanced_accuracy
        return accuracy(network, self._split(part), size=place.size, device=place.device, exact=exact)

    def judge(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> Judgement:
        """What a network says about each image of a split."""
        classes = self.data.num_classes
        return judge(
            network, self._split(part), size=place.size, device=place.device, num_classes=classes, exact=exact
        )

    def grade(self, network: nn.Module, place: Place) -> Grade:
        judgement = self.judge(network, "val", place, exact=True)
        return Grade(judgement.correct, judgement.class_weights if self.metric == "balanced" else None)

    def _split(self, part: Part) -> Split:
        return {"train": self.data.train, "val": self.data.val, "test": self.data.test}[part]
