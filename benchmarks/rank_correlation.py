"""How well a supernet ranks architectures: Kendall's tau with the accuracy of each when it is trained alone.

    python benchmarks/rank_correlation.py path/to/fashion_mnist.npz [NAME [KEY=VALUE ...]]

NAME is the name of these settings in the result file (`default`). KEY=VALUE changes a setting, such as
supernet.epochs=16, finetune.lr=0.05, finetune_epochs=2, val_images=4000; keep=FILE stores the supernet's weights and
reuses them. The truth is from rank_truth.py. The result also has the ceiling (one seed of the truth against the other),
MAdds, parameters and the zero-cost scores.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from common import RESULTS, cpu_trainer, options_parser, save_part
from rank_truth import IMAGES, architectures, space
from scipy.stats import bootstrap, kendalltau

import mnas
from mnas.config import Objective, RunConfig, Target, with_keys
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.estimators.supernet import SupernetEstimator
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.pipeline.plan import partial_epochs
from mnas.space.architecture import Architecture
from mnas.training.supernet import SupernetTraining

BOOTSTRAPS = 2000
Accuracies = dict[str, list[list[float]]]
"""For each split, the accuracies of each network, by seed."""


def tau(estimate: Sequence[float], truth: Sequence[float]) -> float:
    return float(kendalltau(estimate, truth).statistic)


def with_interval(estimate: Sequence[float], truth: Sequence[float]) -> dict[str, Any]:
    """Kendall's tau and its 95% interval, by a bootstrap over networks."""
    interval = bootstrap(
        (estimate, truth), tau, paired=True, vectorized=False, n_resamples=BOOTSTRAPS, method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return {"tau": round(tau(estimate, truth), 3), "interval": [round(float(end), 3) for end in interval]}


def trained_supernet(data: mnas.ImageData, config: RunConfig, file: Path | None) -> tuple[mnas.Supernet, float]:
    """The supernet and the seconds of its training; stored in and read from `file` if one is named."""
    torch.manual_seed(config.seed)
    supernet = mnas.Supernet(space(), data.num_classes)
    if file is not None and file.exists():
        supernet.load_state_dict(safetensors.torch.load_file(file))
        return supernet, float(file.with_suffix(".txt").read_text())
    began = time.perf_counter()
    training = SupernetTraining(supernet, config.supernet, cpu_trainer(data, bool(data.flip), config.seed))
    for interval in training.run():
        print(f"{time.perf_counter() - began:.0f} s", interval, file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    if file is not None:
        state = {name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}
        file.write_bytes(safetensors.torch.save(state))
        file.with_suffix(".txt").write_text(f"{seconds:.1f}")
    return supernet, seconds


def judged(
    estimate: Callable[[Architecture], float], archs: Sequence[Architecture], accuracies: Accuracies
) -> dict[str, Any]:
    """An estimate's values, its seconds per network, and its tau on each split."""
    began = time.perf_counter()
    values = [estimate(arch) for arch in archs]
    seconds = time.perf_counter() - began
    return {
        "values": [round(value, 5) for value in values], "seconds_each": round(seconds / len(values), 2),
        **{
            split: with_interval(values, [float(np.mean(seeds)) for seeds in by_network])
            for split, by_network in accuracies.items()
        },
    }  # fmt: skip


def true_accuracies(source: str, archs: Sequence[Architecture]) -> Accuracies:
    """The accuracies in the result file of rank_truth.py."""
    trainings = json.loads((RESULTS / f"rank_truth_{Path(source).stem}.json").read_text())["figures"]["trainings"]
    trainings = sorted(trainings, key=lambda training: training["seed"])
    return {
        split: [[training[split] for training in trainings if training["id"] == arch.id] for arch in archs]
        for split in ("val", "test")
    }


def figures(source: str, settings: Sequence[str]) -> dict[str, Any]:
    changes = dict(setting.split("=", 1) for setting in settings)
    weights_file, val_images = changes.pop("keep", ""), int(changes.pop("val_images", 10**6))
    config = RunConfig(space="v3_small", targets=(Target(),), objective=Objective(name="", formula="pareto"))
    config = with_keys(config, changes)
    data = load_data(source)
    data = replace(data, train=limited(data.train, IMAGES, 0), val=limited(data.val, val_images, 1))
    archs = architectures()
    accuracies = true_accuracies(source, archs)
    result: dict[str, Any] = {"settings": changes, "val_images": len(data.val), "estimates": {}}
    for split, by_network in accuracies.items():
        if all(len(seeds) > 1 for seeds in by_network):
            result[f"ceiling_{split}"] = with_interval(*zip(*by_network, strict=True))
    supernet, result["supernet_s"] = trained_supernet(data, config, Path(weights_file) if weights_file else None)
    finetune = partial_epochs(config.finetune, config.finetune_epochs, len(data.train))
    estimator = SupernetEstimator(supernet, cpu_trainer(data, bool(data.flip)), finetune)
    zero_cost = {
        score: ZeroCostEstimator(space(), cpu_trainer(data), score) for score in ("naswot", "synflow")
    }
    estimates: dict[str, Callable[[Architecture], float]] = {
        "madds": lambda arch: mnas.cost(arch).madds, "params": lambda arch: mnas.cost(arch).params,
        **{score: zero.score for score, zero in zero_cost.items()},
        "inherited": estimator.inherited, "fine-tuned": estimator.fine_tuned,
    }  # fmt: skip
    for name, estimate in estimates.items():
        result["estimates"][name] = row = judged(estimate, archs, accuracies)
        print(name, row["val"], row["test"], row["seconds_each"], file=sys.stderr, flush=True)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data")
    parser.add_argument("name", nargs="?", default="default")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    random.seed(0)
    save_part(f"rank_correlation_{Path(options.data).stem}", options.name, figures(options.data, options.settings))


if __name__ == "__main__":
    main()
