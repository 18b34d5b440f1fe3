"""What 24 architectures of v3_small really reach, each trained alone with two seeds: the truth for rank_correlation.py.

    python benchmarks/rank_truth.py path/to/fashion_mnist.npz

The architectures are spread over the space's MAdds and three resolutions. One network at a time, on one thread; what
is in the result file is not trained again. Accuracies are of the search-validation split and of the test split.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, save

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.loop import accuracy, fit, recalibrate

NETWORKS, SEEDS = 24, (0, 1)
IMAGES = 10_000
"""Training images; the supernet sees the same ones."""
RECIPE = Recipe(epochs=8, dropout=0.0)
CPU = torch.device("cpu")


def space() -> SearchSpace:
    return mnas.load_space("v3_small").with_resolutions((24, 32, 48))


class Sized:
    """A proposal whose blocks lean to the small or the large end, at any resolution: random ones are all middling."""

    def __init__(self, rng: random.Random):
        self.rng, self.share = rng, rng.random()

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        if name == "resolution":
            return self.rng.choice(choices)
        return choices[sum(self.rng.random() < self.share for _ in choices[1:])]


def architectures() -> list[Architecture]:
    """One network for each of equal steps of log MAdds, between those that one in 250 falls short of."""
    rng = random.Random(2026)
    drawn = [space().suggest(Sized(rng)) for _ in range(3000)]
    madds = np.log([mnas.cost(arch).madds for arch in drawn])
    wanted = np.linspace(*np.quantile(madds, (0.004, 0.996)), NETWORKS)
    return [drawn[int(np.abs(madds - one).argmin())] for one in wanted]


def train_alone(arch: Architecture, seed: int, data: mnas.ImageData) -> dict[str, Any]:
    train = limited(data.train, IMAGES, 0)
    began = time.perf_counter()
    torch.manual_seed(seed)
    network = mnas.build(arch, data.num_classes, RECIPE.dropout)
    for _ in fit(network, train, RECIPE, size=arch.resolution, flip=bool(data.flip), device=CPU, seed=seed):
        pass
    recalibrate(network, train, images=4096, size=arch.resolution, device=CPU)
    seconds = time.perf_counter() - began
    judged = {kind: accuracy(network, split, size=arch.resolution, device=CPU)
              for kind, split in (("val", data.val), ("test", data.test))}
    return {"id": arch.id, "seed": seed, "seconds": round(seconds, 1), **judged}


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = load_data(sys.argv[1])
    name = f"rank_truth_{Path(sys.argv[1]).stem}"
    file = RESULTS / f"{name}.json"
    found = json.loads(file.read_text())["figures"]["trainings"] if file.exists() else []
    for seed in SEEDS:
        for number, arch in enumerate(architectures()):
            if any((one["id"], one["seed"]) == (arch.id, seed) for one in found):
                continue
            found.append(train_alone(arch, seed, data) | {
                "number": number, "madds": mnas.cost(arch).madds, "params": mnas.cost(arch).params,
                "resolution": arch.resolution,
            })  # fmt: skip
            save(name, {"images": IMAGES, "recipe": RECIPE.model_dump(), "trainings": found})
