"""A network trained fully, and its accuracy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
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
from mnas.nn.pretrained import load_weights
from mnas.space.architecture import Architecture
from mnas.training.loop import accuracy, fit, recalibrate
from mnas.training.recipe import flips

log = logging.getLogger("mnas")


CALIBRATION_IMAGES = 4096


Start = Callable[[], tuple[nn.Module, nn.Module | None]]


@dataclass(frozen=True)
class Trained:
    """A network after full training, with its accuracy on the search-validation split."""

    name: str
    architecture: Architecture
    network: Network
    val_accuracy: float
    weights: Literal["scratch", "inherited"] = "scratch"
    """What its training began from."""
    epochs: int = 0
    """Of its training."""


def train_fully(
    name: str, arch: Architecture, data: ImageData, recipe: Recipe, *, size: int, device: torch.device, seed: int,
    checkpoints: Path, board: TensorBoard | None = None, start: Start | None = None,
) -> Trained:  # fmt: skip
    """`arch` trained by `recipe` at `size` pixels; a finished training found in `checkpoints` is not repeated.

    `start` gives the network whose weights it begins with, and a teacher whose outputs it learns too where there is
    one; it is called where there is something to train. Without it, it begins with fresh weights.
    """
    weights: Literal["scratch", "inherited"] = "scratch" if start is None else "inherited"
    file = checkpoints / f"{arch.id}-{size}px-{recipe.epochs}epochs-seed{seed}-{weights}.safetensors"
    torch.manual_seed(seed)
    network = build(arch, data.num_classes, recipe.dropout)
    train = limited(data.train, recipe.images, seed)
    reached = 0.0
    if file.exists():
        load_weights(network, file)
        reached = accuracy(network, data.val, size=size, device=device, exact=True)
        log.info("%s: trained before, %.2f%% on the search-validation split", name, 100 * reached)
        return Trained(name, arch, network, reached, weights, recipe.epochs)
    teacher = None
    if start is not None:
        inherited, teacher = start()
        network.load_state_dict(inherited.state_dict())
    with progress(f"train {name}", recipe.epochs) as shown:
        flip = flips(recipe, data.flip)
        for epoch in fit(network, train, recipe, size=size, flip=flip, device=device, seed=seed, teacher=teacher):
            reached = accuracy(network, data.val, size=size, device=device)
            shown.update(epoch.number, recipe.epochs, f"loss {epoch.loss:.3f}, validation {reached:.2%}")
            if board is not None:
                figures = {"loss": epoch.loss, "lr": epoch.lr, "images_per_s": epoch.images_per_s, "accuracy": reached}
                board.training(name, epoch.number, figures)
    recalibrate(network, train, images=CALIBRATION_IMAGES, size=size, device=device)
    reached = accuracy(network, data.val, size=size, device=device, exact=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    write_atomic(file, safetensors.torch.save(network.state_dict()))
    log.info("%s: trained for %d epochs, %.2f%% on the search-validation split", name, recipe.epochs, 100 * reached)
    return Trained(name, arch, network, reached, weights, recipe.epochs)


def test_accuracy(trained: Trained, data: ImageData, *, size: int, device: torch.device) -> float:
    """Accuracy on the test split: read once, when nothing is left to decide."""
    return accuracy(trained.network, data.test, size=size, device=device, exact=True)
