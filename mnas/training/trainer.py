"""Training and judging networks on one data set: every training of a run goes through a `Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from mnas.config import Recipe
from mnas.data.sources import ImageData
from mnas.data.splits import limited
from mnas.nn.network import Network, build
from mnas.nn.origin import Origin, best_origin
from mnas.space.architecture import Architecture
from mnas.training.judgement import Judgement, judge
from mnas.training.loop import Epoch, Setting, Training, accuracy, recalibrate
from mnas.training.memory import parts_of
from mnas.training.precision import Precision
from mnas.training.recipe import with_flip
from mnas.training.sizes import FULL_SIZE, TrainingSizes

Metric = Literal["accuracy", "balanced"]
Delivers = Callable[[Network, Architecture], nn.Module]
"""Makes a module on the CPU that computes what a network's file does, such as one in int8."""


@dataclass(frozen=True)
class Trainer:
    """Trains and judges networks: the data, the size of each architecture's images, the device, the seed."""

    data: ImageData
    sizes: TrainingSizes
    device: torch.device
    seed: int
    precision: Precision = "float32"
    """Of training; networks are judged in float32, on CUDA in bfloat16 where that need not be exact."""
    metric: Metric = "accuracy"
    """What `accuracy` and the standing of a full training give; balanced: the mean of the classes' recalls."""

    origins: tuple[Origin, ...] = ()
    """Trained networks from whose weights those of the same design start."""

    delivers: Delivers | None = None
    """Makes what is handed over of a network: exact judgements are of that. None: the network itself."""

    def origin_of(self, arch: Architecture) -> Origin | None:
        """The trained network from whose weights one of `arch` starts; None where none fits."""
        return best_origin(self.origins, arch)

    def at_full_size(self) -> Trainer:
        """The same trainer with each architecture at its own resolution."""
        return replace(self, sizes=FULL_SIZE)

    def build(self, arch: Architecture, dropout: float = 0.0) -> Network:
        """A network for the classes of the data, with an origin's weights or fresh ones, which the seed decides."""
        torch.manual_seed(self.seed)
        network, origin = build(arch, self.data.num_classes, dropout), self.origin_of(arch)
        if origin is not None:
            origin.fill(network, arch)
        return network

    def fit(
        self, network: nn.Module, arch: Architecture, recipe: Recipe, teacher: nn.Module | None = None
    ) -> Iterator[Epoch]:
        """Train `network` in place on the training split, or as many images of it as the recipe allows."""
        return self.training(network, arch, recipe, teacher).rest()

    def training(
        self, network: nn.Module, arch: Architecture, recipe: Recipe, teacher: nn.Module | None = None
    ) -> Training:
        """The training of `fit`, step by step."""
        images = limited(self.data.train, recipe.images, self.seed)
        size = self.sizes.of(arch)
        parts = parts_of(min(recipe.batch_size, len(images)), arch, size, self.device)
        setting = Setting(size, self.device, self.seed, self.data.num_classes, self.precision, parts)
        return Training(network, images, with_flip(recipe, self.data), setting, teacher)

    def finish(self, network: nn.Module, arch: Architecture, images: int) -> None:
        """Set batch normalisation's statistics from this number of training images."""
        recalibrate(network, self.data.train, images=images, size=self.sizes.of(arch), device=self.device)

    def accuracy(
        self, network: nn.Module, arch: Architecture, split: Literal["train", "val", "test"] = "val", *,
        exact: bool = False,
    ) -> float:  # fmt: skip
        """Accuracy (0..1) on a split, by `metric`; `exact` in float32, as the exported network computes."""
        if self.metric == "balanced":
            return self.judge(network, arch, split, exact=exact).balanced_accuracy
        images = {"train": self.data.train, "val": self.data.val, "test": self.data.test}[split]
        return accuracy(network, images, size=self.sizes.of(arch), device=self.device, exact=exact)

    def judge(
        self, network: nn.Module, arch: Architecture, split: Literal["train", "val", "test"] = "val", *,
        exact: bool = False,
    ) -> Judgement:  # fmt: skip
        """`accuracy`, image by image; where a network is handed over as another file, `exact` is what that says."""
        images = {"train": self.data.train, "val": self.data.val, "test": self.data.test}[split]
        size, device, classes = self.sizes.of(arch), self.device, self.data.num_classes
        if exact and self.delivers is not None and isinstance(network, Network):
            network, size, device = self.delivers(network, arch), arch.resolution, torch.device("cpu")
        return judge(network, images, size=size, device=device, num_classes=classes, exact=exact)

    def limited(self, *, train: int | None = None, val: int | None = None, seed: int | None = None) -> Trainer:
        """The same trainer on at most these numbers of images, drawn evenly from the classes."""
        seed = self.seed if seed is None else seed
        data = self.data
        return replace(self, data=replace(
            data, train=limited(data.train, train, seed), val=limited(data.val, val, seed)
        ))  # fmt: skip
