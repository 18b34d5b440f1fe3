"""Training images/s of MobileNetV3-Large and -Small at 32x32, batch 128, by number of threads.

    python benchmarks/training_throughput.py
"""

from __future__ import annotations

import statistics

import torch
from common import save

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.training.loop import fit

DATA = load_data("digits")
RECIPE = Recipe(epochs=6, batch_size=128)


def images_per_s(name: str, threads: int) -> float:
    torch.set_num_threads(threads)
    network = mnas.build(mnas.space.zoo.get(name), 10)
    epochs = fit(network, DATA.train, RECIPE, size=32, flip=False, device=torch.device("cpu"), seed=0)
    return round(statistics.median([epoch.images_per_s for epoch in epochs][1:]), 1)


names = ("mobilenet_v3_large", "mobilenet_v3_small")
counts = sorted({1, torch.get_num_threads()})
save("training_throughput", {name: {f"{n}_threads": images_per_s(name, n) for n in counts} for name in names})
