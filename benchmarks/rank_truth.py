"""The accuracy of 24 architectures of v3_small, each trained alone with two seeds: the truth for rank_correlation.py.

    python benchmarks/rank_truth.py path/to/fashion_mnist.npz

The architectures are spread over the space's MAdds and three resolutions. Networks are trained one at a time, on one
thread; those in the result file are not trained again. Accuracies are of the search-validation and the test split.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, options_parser, save

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.loop import Setting, accuracy, fit, recalibrate
from mnas.training.recipe import with_flip

NETWORKS, SEEDS = 24, (0, 1)
IMAGES = 10_000
"""Training images, the same as the supernet's."""
RECIPE = Recipe(epochs=8, dropout=0.0)
CPU = torch.device("cpu")


def space() -> SearchSpace:
    return mnas.load_space("v3_small").with_resolutions((24, 32, 48))


class Sized:
    """A proposal whose blocks are mostly small or mostly large; uniformly random ones are all of medium size."""

    def __init__(self, rng: random.Random):
        self.rng, self.share = rng, rng.random()

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        if name == "resolution":
            return self.rng.choice(choices)
        return choices[sum(self.rng.random() < self.share for _ in choices[1:])]


def architectures() -> list[Architecture]:
    """One network for each of equal steps of log MAdds, between the quantiles 0.4% and 99.6%."""
    rng, opened = random.Random(2026), space()
    drawn = [opened.suggest(Sized(rng)) for _ in range(3000)]
    madds = np.log([mnas.cost(arch).madds for arch in drawn])
    low, high = np.quantile(madds, (0.004, 0.996))
    steps = np.linspace(float(low), float(high), NETWORKS)
    return [drawn[int(np.abs(madds - step).argmin())] for step in steps]


def train_alone(arch: Architecture, seed: int, data: mnas.ImageData) -> dict[str, Any]:
    train = limited(data.train, IMAGES, 0)
    began = time.perf_counter()
    torch.manual_seed(seed)
    network = mnas.build(arch, data.num_classes, RECIPE.dropout)
    for _ in fit(network, train, with_flip(RECIPE, data), Setting(arch.resolution, CPU, seed, data.num_classes)):
        pass
    recalibrate(network, train, images=4096, size=arch.resolution, device=CPU)
    seconds = time.perf_counter() - began
    accuracies = {kind: accuracy(network, split, size=arch.resolution, device=CPU)
                  for kind, split in (("val", data.val), ("test", data.test))}  # fmt: skip
    return {"id": arch.id, "seed": seed, "seconds": round(seconds, 1), **accuracies}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data")
    source = parser.parse_args(arguments).data
    torch.set_num_threads(1)
    data = load_data(source)
    name = f"rank_truth_{Path(source).stem}"
    file = RESULTS / f"{name}.json"
    trainings = json.loads(file.read_text())["figures"]["trainings"] if file.exists() else []
    for seed in SEEDS:
        for number, arch in enumerate(architectures()):
            if any((training["id"], training["seed"]) == (arch.id, seed) for training in trainings):
                continue
            trainings.append(train_alone(arch, seed, data) | {
                "number": number, "madds": mnas.cost(arch).madds, "params": mnas.cost(arch).params,
                "resolution": arch.resolution,
            })  # fmt: skip
            save(name, {"images": IMAGES, "recipe": RECIPE.model_dump(), "trainings": trainings})


if __name__ == "__main__":
    main()
