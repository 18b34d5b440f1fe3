"""MobileNetV3-Small with one kind of choice changed everywhere: how accurate it is after a short training.

    python benchmarks/one_choice.py cifar10

Each network is trained by the race's recipe on one thread, for as many epochs as the published one. Beside its
accuracies on the search-validation split, after one epoch, a third of the training and at its end, are the processor's
seconds: in a race by time a network that needs fewer trains for more epochs. Those in the result file are not trained
again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import cpu_trainer, options_parser, save_part, saved_parts
from recipe_parts import opened
from within_budget import trained

import mnas
from mnas.config import Recipe
from mnas.data.splits import limited
from mnas.space.architecture import Architecture
from mnas.space.choices import Choices, Option

VAL_IMAGES = 4000
Change = Callable[[Option, list[Option]], Option]
"""(the option of the published network, all options) -> another one."""
CHANGES: dict[str, dict[str, Change]] = {
    "published": {},
    "without squeeze-and-excitation": {"se": lambda had, options: 0},
    "squeeze-and-excitation everywhere": {"se": lambda had, options: 0.25},
    "hard-swish everywhere": {"activation": lambda had, options: "hard_swish"},
    "ReLU everywhere": {"activation": lambda had, options: "relu"},
    "kernels 3": {"kernel": lambda had, options: 3},
    "kernels 5": {"kernel": lambda had, options: 5},
    "expansions 3": {"expansion": lambda had, options: 3},
    "expansions 6": {"expansion": lambda had, options: 6},
    "a layer more": {"depth": lambda had, options: min(float(had) + 1, *map(float, options[-1:]))},
    "a layer fewer": {"depth": lambda had, options: max(float(had) - 1, float(options[0]))},
}
CHANGES |= {
    "a layer more, expansions 3": CHANGES["a layer more"] | CHANGES["expansions 3"],
    "a layer fewer, expansions 6": CHANGES["a layer fewer"] | CHANGES["expansions 6"],
}


def changed(space: mnas.SearchSpace, arch: Architecture, changes: Mapping[str, Change]) -> Architecture:
    """The network with those kinds of choices changed; a layer that it did not have is as the one before."""
    choices = space.encode(arch)

    def choose(name: str, had: Option | None, options: list[Option]) -> Option:
        kept = _inherited(choices, name) if had is None else had
        change = changes.get(name.rpartition(".")[2])
        return kept if change is None else change(kept, options)

    return space.changed(arch, choose)


def _inherited(choices: Choices, name: str) -> Option:
    """What the last layer of the same stage has."""
    stage, layer, kind = re.match(r"(stage\d+)\.layer(\d+)\.(\w+)", name).groups()  # type: ignore[union-attr]
    return next(choices[known] for n in range(int(layer), 0, -1) if (known := f"{stage}.layer{n}.{kind}") in choices)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6, help="a multiple of three")
    parser.add_argument("--resolution", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = opened(options.data)
    data = replace(data, train=limited(data.train, options.images, 0), val=limited(data.val, VAL_IMAGES, 0))
    trainer, recipe = cpu_trainer(data, flip=bool(data.flip)), Recipe(epochs=options.epochs)
    space = mnas.load_space("v3_small").with_resolutions((options.resolution,))
    published = mnas.zoo.get("mobilenet_v3_small", resolution=options.resolution)
    part = f"{options.data}, {options.images} images, {options.epochs} epochs, {options.resolution} px"
    rows: dict[str, Any] = saved_parts("one_choice").get(part, {})
    for seed in range(options.seeds):
        for name, changes in CHANGES.items():
            arch = changed(space, published, changes)
            row = rows.setdefault(name, {"madds": mnas.cost(arch).madds, "params": mnas.cost(arch).params, "runs": []})
            if len(row["runs"]) > seed:
                continue
            began = time.perf_counter()
            row["runs"].append(trained(arch, trainer, recipe, seed))
            row["mean"] = round(float(np.mean([run["accuracy"] for run in row["runs"]])), 4)
            print(f"{name}: {row['runs'][-1]}, {time.perf_counter() - began:.0f} s", flush=True)
            save_part("one_choice", part, rows)


if __name__ == "__main__":
    main()
