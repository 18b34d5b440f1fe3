"""Training speed of MobileNetV3-Large and -Small: images/s at 32x32, batch 128, by number of threads.

    python benchmarks/training_throughput.py
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from common import options_parser, save

import mnas
from mnas.config import Recipe
from mnas.training.loop import fit

NETWORKS = ("mobilenet_v3_large", "mobilenet_v3_small")
RECIPE = Recipe(epochs=6, batch_size=128)


def images_per_s(name: str, data: mnas.ImageData, threads: int) -> float:
    """The median over the epochs, without the first."""
    torch.set_num_threads(threads)
    network = mnas.build(mnas.zoo.get(name), data.num_classes)
    epochs = fit(network, data.train, RECIPE, size=32, device=torch.device("cpu"), seed=0)
    return round(statistics.median([epoch.images_per_s for epoch in epochs][1:]), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    options_parser(__doc__).parse_args(arguments)
    data, counts = mnas.load_data("digits"), sorted({1, torch.get_num_threads()})
    figures = {name: {f"{n}_threads": images_per_s(name, data, n) for n in counts} for name in NETWORKS}
    save("training_throughput", figures)


if __name__ == "__main__":
    main()
