"""How fast this machine trains, in images per second."""

from __future__ import annotations

import torch

from mnas.config import Recipe, SupernetRecipe
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.device import restored_threads
from mnas.training.supernet import SupernetTraining
from mnas.training.trainer import Trainer


def training_speed(arch: Architecture, recipe: Recipe, trainer: Trainer) -> float:
    """Images/s of training `arch` here, from two short epochs of which the first warms up."""
    sample = trainer.limited(train=2 * recipe.batch_size, seed=0)
    batch_size = min(recipe.batch_size, len(sample.data.train))
    short = recipe.model_copy(update={"epochs": 2, "batch_size": batch_size, "images": None, "flip": False})
    epochs = list(sample.fit(sample.build(arch), arch, short))
    return epochs[1].images_per_s


def fastest_threads(arch: Architecture, recipe: Recipe, trainer: Trainer) -> tuple[int, float]:
    """The number of CPU threads, one or all, that trains `arch` faster now, and its images/s.

    Beside other work one thread is often faster: with more, each operation waits for the slowest of them.
    """
    current = torch.get_num_threads()
    speeds = {}
    with restored_threads():
        for threads in {1, current} if trainer.device.type == "cpu" else {current}:
            torch.set_num_threads(threads)
            speeds[threads] = training_speed(arch, recipe, trainer)
    best = max(speeds, key=lambda threads: speeds[threads])
    return best, speeds[best]


def supernet_speed(space: SearchSpace, recipe: SupernetRecipe, trainer: Trainer) -> float:
    """Images/s of training a supernet here, each image counted once a step, from a few steps.

    On a GPU the first steps are not counted: they look for a kernel for each shape.
    """
    sample = trainer.limited(train=3 * recipe.batch_size, seed=0)
    short = recipe.model_copy(update={"epochs": 2, "images": None, "flip": False})
    for _ in range(2 if trainer.device.type == "cuda" else 1):
        training = SupernetTraining(Supernet(space, sample.data.num_classes), short, sample)
        speed = next(training.run()).images_per_s / (recipe.subnets + 2)
    return speed
