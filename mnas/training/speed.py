"""How fast this machine trains, in images per second."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Literal

import torch

from mnas.config import Recipe, SupernetRecipe
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.device import restored_threads
from mnas.training.precision import Precision, has_bfloat16, uses_bfloat16
from mnas.training.supernet import SupernetTraining
from mnas.training.trainer import Trainer

SHORT_EPOCHS, MEASURED_S = 9, 1.0
"""Epochs of two batches that are timed at most, the first left out, and the seconds after which no other begins."""
WORTH = 1.1
"""A precision must be so many times as fast as float32 to be taken."""


def training_speed(arch: Architecture, recipe: Recipe, trainer: Trainer) -> float:
    """Images/s of training `arch` here: the median of some short epochs, after a first one that warms up."""
    sample = trainer.limited(train=2 * recipe.batch_size, seed=0)
    batch_size = min(recipe.batch_size, sample.task.images)
    short = recipe.model_copy(update={"epochs": SHORT_EPOCHS, "batch_size": batch_size, "images": None, "flip": False})
    speeds, began = list[float](), time.perf_counter()
    for epoch in sample.fit(sample.build(arch), arch, short):
        speeds.append(epoch.images_per_s)
        if len(speeds) > 1 and time.perf_counter() - began > MEASURED_S:
            break
    return statistics.median(speeds[1:])


@dataclass(frozen=True)
class Pace:
    """How a machine trains, and how fast."""

    threads: int
    """Torch's CPU threads."""
    precision: Precision
    images_per_s: float


def fastest(
    arch: Architecture, recipe: Recipe, trainer: Trainer, *, threads: int | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Pace:  # fmt: skip
    """The CPU threads, one or all, and the precision with which this machine trains `arch` fastest now.

    What is given is kept, and only its speed measured. Beside other work one thread is often faster: with more, each
    operation waits for the slowest of them. bfloat16 is tried where the processor computes in it, and taken where it is
    WORTH it.
    """
    device, current = trainer.device, torch.get_num_threads()
    counts = {threads or current} if threads or device.type != "cpu" else {1, current}
    first: Precision = "float32" if precision == "auto" else precision
    with restored_threads():
        best = max((_pace(count, first, arch, recipe, trainer) for count in counts), key=lambda pace: pace.images_per_s)
        if precision == "auto" and has_bfloat16(device) and uses_bfloat16(device, trainer.sizes.of(arch)):
            low = _pace(best.threads, "bfloat16", arch, recipe, trainer)
            if low.images_per_s > WORTH * best.images_per_s:
                return low
    return best


def _pace(threads: int, precision: Precision, arch: Architecture, recipe: Recipe, trainer: Trainer) -> Pace:
    torch.set_num_threads(threads)
    return Pace(threads, precision, training_speed(arch, recipe, replace(trainer, precision=precision)))


def supernet_speed(space: SearchSpace, recipe: SupernetRecipe, trainer: Trainer) -> float:
    """Images/s of training a supernet here, each image counted once a step, from a few steps.

    On a GPU the first steps are not counted: they look for a kernel for each shape.
    """
    sample = trainer.limited(train=3 * recipe.batch_size, seed=0)
    short = recipe.model_copy(update={"epochs": 2, "images": None, "flip": False})
    for _ in range(2 if trainer.device.type == "cuda" else 1):
        training = SupernetTraining(sample.task.supernet(space, False), short, sample)
        speed = next(training.run()).images_per_s / (recipe.subnets + 2)
    return speed
