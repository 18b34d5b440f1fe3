"""How fast this machine trains: images per second."""

from __future__ import annotations

import logging

import torch

from mnas.config import Recipe, SupernetRecipe
from mnas.data.sources import ImageData
from mnas.data.splits import limited
from mnas.nn.network import build
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.loop import fit
from mnas.training.supernet import SizeOf, SupernetTraining

log = logging.getLogger("mnas")



def training_speed(arch: Architecture, data: ImageData, recipe: Recipe, size: int, device: torch.device) -> float:
    """Images/s of training `arch` here, from two short epochs of which the first warms up."""
    sample = limited(data.train, 2 * recipe.batch_size, 0)
    short = recipe.model_copy(update={"epochs": 2, "batch_size": min(recipe.batch_size, len(sample))})
    network = build(arch, data.num_classes)
    epochs = list(fit(network, sample, short, size=size, flip=False, device=device, seed=0))
    return epochs[1].images_per_s


def fastest_threads(
    arch: Architecture, data: ImageData, recipe: Recipe, size: int, device: torch.device
) -> tuple[int, float]:
    """The number of CPU threads that trains `arch` fastest now, and its images/s.

    Beside other work one thread beats many by far: each operation waits for the slowest of them.
    """
    before = torch.get_num_threads()
    speeds = {}
    for threads in {1, before} if device.type == "cpu" else {before}:
        torch.set_num_threads(threads)
        speeds[threads] = training_speed(arch, data, recipe, size, device)
    torch.set_num_threads(before)
    best = max(speeds, key=lambda threads: speeds[threads])
    return best, speeds[best]


def sandwich_speed(
    space: SearchSpace, data: ImageData, recipe: SupernetRecipe, size_of: SizeOf, device: torch.device
) -> float:
    """Training images/s of a supernet here, each through all subnets of a step, from a few steps.

    A GPU makes them twice: at first it looks for a kernel for each shape that it meets.
    """
    some = limited(data.train, 3 * recipe.batch_size, 0)
    for _ in range(2 if device.type == "cuda" else 1):
        training = SupernetTraining(
            Supernet(space, data.num_classes), some, recipe.model_copy(update={"epochs": 2, "images": None}),
            size_of=size_of, flip=False, device=device, seed=0,
        )  # fmt: skip
        speed = next(training.run()).images_per_s / (recipe.subnets + 2)
    return speed
