"""Training and judging networks on one data set: every training of a run goes through a `Trainer`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import nn

from mnas.config import Recipe
from mnas.data.sources import ImageData
from mnas.data.splits import limited
from mnas.io.files import write_atomic
from mnas.monitor.console import progress
from mnas.monitor.tensorboard import TensorBoard
from mnas.nn.network import Network, build
from mnas.nn.weights import load_weights
from mnas.space.architecture import Architecture
from mnas.training.loop import Epoch, accuracy, fit, recalibrate
from mnas.training.recipe import with_flip
from mnas.training.sizes import TrainingSizes

log = logging.getLogger("mnas")

FINAL_STATISTICS_IMAGES = 4096
"""Training images from which a fully trained network's batch normalisation gets its statistics."""

Start = Callable[[], tuple[nn.Module, nn.Module | None]]
"""Gives the network whose weights a training starts from, and a teacher or None."""


@dataclass(frozen=True)
class Trainer:
    """Trains and judges networks: the data, the size of each architecture's images, the device, the seed."""

    data: ImageData
    sizes: TrainingSizes
    device: torch.device
    seed: int

    def build(self, arch: Architecture, dropout: float = 0.0) -> Network:
        """A freshly initialised network for the classes of the data; the seed decides its weights."""
        torch.manual_seed(self.seed)
        return build(arch, self.data.num_classes, dropout)

    def fit(
        self, network: nn.Module, arch: Architecture, recipe: Recipe, teacher: nn.Module | None = None
    ) -> Iterator[Epoch]:
        """Train `network` in place on the training split, or as many images of it as the recipe allows."""
        return fit(
            network, limited(self.data.train, recipe.images, self.seed), with_flip(recipe, self.data),
            size=self.sizes.of(arch), device=self.device, seed=self.seed, teacher=teacher,
        )  # fmt: skip

    def finish(self, network: nn.Module, arch: Architecture, images: int) -> None:
        """Set batch normalisation's statistics from this number of training images."""
        recalibrate(network, self.data.train, images=images, size=self.sizes.of(arch), device=self.device)

    def accuracy(
        self, network: nn.Module, arch: Architecture, split: Literal["train", "val", "test"] = "val", *,
        exact: bool = False,
    ) -> float:  # fmt: skip
        """Accuracy (0..1) on a split; `exact` in float32, as the exported network computes."""
        images = {"train": self.data.train, "val": self.data.val, "test": self.data.test}[split]
        return accuracy(network, images, size=self.sizes.of(arch), device=self.device, exact=exact)

    def limited(self, *, train: int | None = None, val: int | None = None, seed: int | None = None) -> Trainer:
        """The same trainer on at most these numbers of images, drawn evenly from the classes."""
        seed = self.seed if seed is None else seed
        data = self.data
        return replace(self, data=replace(
            data, train=limited(data.train, train, seed), val=limited(data.val, val, seed)
        ))  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A fully trained network with its accuracy on the search-validation split."""

    name: str
    architecture: Architecture
    network: Network
    val_accuracy: float
    weights: Literal["scratch", "inherited"] = "scratch"
    """What the training started from."""
    epochs: int = 0


def train_fully(
    name: str, arch: Architecture, recipe: Recipe, trainer: Trainer, *, checkpoints: Path,
    board: TensorBoard | None = None, start: Start | None = None,
) -> Trained:  # fmt: skip
    """Train `arch` by `recipe`; a finished training found in `checkpoints` is loaded instead.

    `start` is called only if there is something to train; without it the training starts from fresh weights.
    """
    weights: Literal["scratch", "inherited"] = "scratch" if start is None else "inherited"
    size = trainer.sizes.of(arch)
    file = checkpoints / f"{arch.id}-{size}px-{recipe.epochs}epochs-seed{trainer.seed}-{weights}.safetensors"
    network = trainer.build(arch, recipe.dropout)
    if file.exists():
        load_weights(network, file)
        val_accuracy = trainer.accuracy(network, arch, exact=True)
        log.info("%s: loaded the finished training, validation accuracy %.2f%%", name, 100 * val_accuracy)
        return Trained(name, arch, network, val_accuracy, weights, recipe.epochs)
    teacher = None
    if start is not None:
        inherited, teacher = start()
        network.load_state_dict(inherited.state_dict())
    with progress(f"train {name}", recipe.epochs) as shown:
        for epoch in trainer.fit(network, arch, recipe, teacher):
            val_accuracy = trainer.accuracy(network, arch)
            shown.update(epoch.number, recipe.epochs, f"loss {epoch.loss:.3f}, validation {val_accuracy:.2%}")
            if board is not None:
                board.training(name, epoch.number, {
                    "loss": epoch.loss, "lr": epoch.lr, "images_per_s": epoch.images_per_s, "accuracy": val_accuracy,
                })  # fmt: skip
    trainer.limited(train=recipe.images).finish(network, arch, FINAL_STATISTICS_IMAGES)
    val_accuracy = trainer.accuracy(network, arch, exact=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    write_atomic(file, safetensors.torch.save(network.state_dict()))
    log.info("%s: trained for %d epochs, validation accuracy %.2f%%", name, recipe.epochs, 100 * val_accuracy)
    return Trained(name, arch, network, val_accuracy, weights, recipe.epochs)


def test_accuracy(trained: Trained, trainer: Trainer) -> float:
    """Accuracy on the test split: read once, when nothing is left to decide."""
    return trainer.accuracy(trained.network, trained.architecture, "test", exact=True)
