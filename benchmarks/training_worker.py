"""A process of training_throughput.py: it trains with the mnas on its path, of this commit or an earlier one.

Its argument is a job as JSON. The answers are lines of JSON; the first tells where mnas lies.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mnas
from mnas.config import Recipe, SupernetRecipe
from mnas.data.sources import load_data
from mnas.data.splits import ArraySplit
from mnas.tasks.classification import Classification
from mnas.training.sizes import TrainingSizes
from mnas.training.supernet import SupernetTraining
from mnas.training.trainer import Trainer

CLASSES = 10
STEPS = 20
"""Steps of one answer about speed: the first of an epoch pays for the memory that is kept until its end."""
Job = dict[str, Any]


def noise(images: int, size: int) -> mnas.ImageData:
    rng = np.random.default_rng(0)
    split = ArraySplit(rng.integers(0, 256, (images, size, size, 3), np.uint8), np.arange(images) % CLASSES)
    return mnas.ImageData("noise", tuple("0123456789"), size, False, split, split, split)


def trainer_of(data: mnas.ImageData, job: Job) -> Trainer:
    """On the CPU at each architecture's own resolution; earlier commits have no precision."""
    trainer = Trainer(Classification(data), TrainingSizes(0, 0), torch.device("cpu"), job.get("seed", 0))
    return replace(trainer, precision=job["precision"]) if "precision" in job else trainer


def speed(job: Job) -> Iterator[dict[str, float]]:
    """Images/s of an epoch of STEPS steps of the default recipe, for each line of the standard input."""
    trainer = trainer_of(noise(STEPS * job["batch"], job["size"]), job)
    arch = mnas.zoo.get(job["network"], resolution=job["size"])
    epochs = trainer.fit(trainer.build(arch), arch, Recipe(batch_size=job["batch"]))
    for _ in sys.stdin:
        yield {"images_per_s": next(epochs).images_per_s}


def accuracy(job: Job) -> Iterator[dict[str, float]]:
    """Test accuracy of one training, without averaged weights, which earlier commits do not have."""
    trainer = trainer_of(load_data(job["data"], seed=0), job)
    plain = {"ema": 0.0} if "ema" in Recipe.model_fields else {}
    recipe = Recipe.model_validate({"epochs": job["epochs"], "batch_size": job["batch"], **plain})
    arch = mnas.zoo.get(job["network"], resolution=job["size"])
    network = trainer.build(arch, recipe.dropout)
    losses = [epoch.loss for epoch in trainer.fit(network, arch, recipe)]
    trainer.finish(network, arch, 2048)
    yield {"accuracy": trainer.accuracy(network, arch, "test", exact=True), "loss": losses[-1]}


def supernet_peak(job: Job) -> Iterator[dict[str, float]]:
    """The process's peak after some steps of the supernet of v3_large, in MB, and how much lies above the start."""
    data, before = noise(job["steps"] * job["batch"], job["size"]), peak_mb()
    space = mnas.load_space("v3_large").with_resolutions((job["size"],))
    recipe = SupernetRecipe(epochs=1, batch_size=job["batch"])
    for _ in SupernetTraining(mnas.Supernet(space, CLASSES), recipe, trainer_of(data, job)).run():
        pass
    yield {"peak_mb": peak_mb(), "start_mb": before}


def network_peak(job: Job) -> Iterator[dict[str, float]]:
    """The same of a network's training."""
    data, before = noise(job["steps"] * job["batch"], job["size"]), peak_mb()
    trainer, arch = trainer_of(data, job), mnas.zoo.get(job["network"], resolution=job["size"])
    for _ in trainer.fit(trainer.build(arch), arch, Recipe(epochs=1, batch_size=job["batch"])):
        pass
    yield {"peak_mb": peak_mb(), "start_mb": before}


def peak_mb() -> float:
    """The largest resident set of this process so far, in MB of 1,000,000 bytes (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


KINDS = {"speed": speed, "accuracy": accuracy, "supernet_peak": supernet_peak, "network_peak": network_peak}


def main() -> None:
    job: Job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    print(json.dumps({"mnas": mnas.__file__}), flush=True)
    for answer in KINDS[job["kind"]](job):
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
