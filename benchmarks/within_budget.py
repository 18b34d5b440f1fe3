"""Networks of v3_small within a budget: how accurate each is once trained, and what tells so beforehand.

    mnas latency build --space v3_small --resolution 32,48,64 --runtime onnxruntime -o table.yaml
    python benchmarks/within_budget.py cifar10 table.yaml --images 10000 --epochs 6

The budget is the latency of MobileNetV3-Small at 1.5 times the native size by the table, and 2% more. Trained by the
race's recipe on one thread: that network and others that an expert would scale to the budget (--references), networks
drawn at random of 75 to 100% of the budget, the best of 386 such by NASWOT and by multiply-adds, and neighbours of the
first. Beside each final accuracy: that after one epoch and after a third of the training, the scores without training,
and short trainings of their own (PROXIES) as the search gives its candidates. `tau` is Kendall's, for all and for each
resolution. Networks in the result file are not trained again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import cpu_trainer, options_parser, save_part, saved_parts
from recipe_parts import opened
from scipy.stats import kendalltau

import mnas
from mnas.config import Recipe, RunConfig
from mnas.data.splits import limited
from mnas.estimators.train import TrainEstimator
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.latency.table.table import LatencyTable, load_table
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.trainer import Trainer

SIZES = (32, 48, 64)
POOL, NEAR, NEARER, SLACK = 400, 0.75, 0.85, 1.02
RANDOM, SCORED, NEIGHBOURS, RATE = 14, 6, 10, 0.15
VAL_IMAGES, STATISTICS_IMAGES = 4000, 2048
REFERENCES = "mobilenet_v3_small@0.85:64,mobilenet_v3_large@0.35:64,mobilenet_v2@0.5:64"
PROXIES = {
    "78_steps": {"epochs": 1, "images": 2500},
    "156_steps": {"epochs": 1, "images": 5000},
    "156_steps_of_1000_images": {"epochs": 5, "images": 1000},
}
"""Changes to the recipe of candidates (batches of 32)."""
BEFOREHAND = ("naswot", "madds", "params", *PROXIES)
FEW = 5
"""Of no more networks a tau says nothing."""
Networks = dict[str, Architecture]


def networks(space: SearchSpace, table: LatencyTable, score: ZeroCostEstimator, references: Sequence[str]) -> Networks:
    """Those that are trained, by kind and number."""

    def ms(arch: Architecture) -> float:
        return table.predict(arch, 1000)

    rng, first = random.Random(1), mnas.zoo.get("mobilenet_v3_small", resolution=SIZES[1])
    budget_ms = SLACK * ms(first)
    pool: list[Architecture] = []
    while len(pool) < POOL:
        arch = space.sample(rng)
        if NEAR * budget_ms <= ms(arch) <= budget_ms:
            pool.append(arch)
    drawn, pool = pool[:RANDOM], pool[RANDOM:]
    near: list[Architecture] = []
    while len(near) < NEIGHBOURS:
        arch = space.mutate(first, rng, rate=RATE)
        if NEARER * budget_ms <= ms(arch) <= budget_ms and arch != first and arch not in near:
            near.append(arch)
    groups = {
        "random": drawn, "neighbour": near, "naswot": sorted(pool, key=score.score, reverse=True)[:SCORED],
        "madds": sorted(pool, key=lambda arch: mnas.cost(arch).madds, reverse=True)[:SCORED],
    }  # fmt: skip
    found = {f"{kind} {number}": arch for kind, archs in groups.items() for number, arch in enumerate(archs)}
    scaled = {name: mnas.zoo.load_architecture(name) for name in references}
    return {"mobilenet_v3_small@1:48": first, **scaled, **found}


def trained(arch: Architecture, trainer: Trainer, recipe: Recipe, seed: int = 0) -> dict[str, Any]:
    """Accuracies on the search-validation split after thirds of a training, and at its end."""
    began = time.process_time()
    torch.manual_seed(seed)
    training, by_epoch = trainer.training(trainer.build(arch, recipe.dropout), arch, recipe), {}
    for epoch in range(1, recipe.epochs + 1):
        training.epoch(lambda step: None)
        if epoch in (1, recipe.epochs // 3, recipe.epochs):
            averaged = training.averaged
            trainer.finish(averaged, arch, STATISTICS_IMAGES)
            by_epoch[str(epoch)] = round(trainer.accuracy(averaged, arch), 4)
    accuracy, cpu_s = by_epoch[str(recipe.epochs)], round(time.process_time() - began)
    return {"after_epochs": by_epoch, "accuracy": accuracy, "cpu_s": cpu_s}


def beforehand(arch: Architecture, trainer: Trainer, score: ZeroCostEstimator) -> dict[str, Any]:
    """What is known of a network before it is trained fully."""
    short, cost = RunConfig.model_fields["proxy"].default, mnas.cost(arch)
    quick = trainer.limited(val=VAL_IMAGES // 2, seed=0)
    proxies = {
        name: round(TrainEstimator(quick, short.model_copy(update=changes))(arch, lambda *_: None), 4)
        for name, changes in PROXIES.items()
    }
    return {"naswot": round(score.score(arch), 2), "madds": cost.madds, "params": cost.params, **proxies}


def taus(rows: Sequence[dict[str, Any]], epochs: int) -> dict[str, Any]:
    """Kendall's tau of everything that is known beforehand with the final accuracy, and the number of networks."""
    known = {name: [(row[name], row["accuracy"]) for row in rows if name in row] for name in BEFOREHAND}
    known |= {
        f"after epoch {n}": [(row["after_epochs"][str(n)], row["accuracy"]) for row in rows] for n in (1, epochs // 3)
    }
    return {
        name: [round(float(kendalltau(*zip(*pairs, strict=True)).statistic), 3), len(pairs)]
        for name, pairs in known.items() if len(pairs) > FEW
    }  # fmt: skip


def figures(rows: dict[str, dict[str, Any]], epochs: int) -> dict[str, Any]:
    by_resolution = {size: [row for row in rows.values() if row["resolution"] == size] for size in SIZES}
    return {
        "tau": {"all": taus(list(rows.values()), epochs)} | {
            f"{size} px": taus(some, epochs) for size, some in by_resolution.items() if len(some) > FEW
        }, "networks": dict(sorted(rows.items(), key=lambda row: row[1]["accuracy"], reverse=True)),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data")
    parser.add_argument("table", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6, help="a multiple of three")
    parser.add_argument("--references", default=REFERENCES)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = opened(options.data)
    data = replace(data, train=limited(data.train, options.images, 0), val=limited(data.val, VAL_IMAGES, 0))
    space = mnas.load_space("v3_small").with_resolutions(SIZES)
    trainer, recipe = cpu_trainer(data, flip=bool(data.flip)), Recipe(epochs=options.epochs)
    score = ZeroCostEstimator(space, trainer)
    part = f"{options.data}, {options.images} images, {options.epochs} epochs"
    rows = saved_parts("within_budget").get(part, {}).get("networks", {})
    wanted = list(networks(space, load_table(options.table), score, options.references.split(",")).items())
    random.Random(3).shuffle(wanted)
    for name, arch in wanted:
        row = rows.get(name, {"resolution": arch.resolution})
        if "accuracy" not in row:
            row |= trained(arch, trainer, recipe)
        if any(one not in row for one in BEFOREHAND):
            row |= beforehand(arch, trainer, score)
            rows[name] = row
            save_part("within_budget", part, figures(rows, options.epochs))


if __name__ == "__main__":
    main()
