"""How well does a supernet rank architectures? Kendall's tau with what each reaches when it is trained alone.

    python benchmarks/rank_correlation.py path/to/fashion_mnist.npz [NAME [KEY=VALUE ...]]

NAME is what this combination is called in the result file (`default`); KEY=VALUE change it, such as
supernet.epochs=16, finetune.lr=0.05, finetune_epochs=2, val_images=4000. The truth is from rank_truth.py. Beside the
estimates: the ceiling (one seed of the truth against the other), MAdds, parameters and the zero-cost scores.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from common import RESULTS, keep
from rank_truth import CPU, IMAGES, architectures, space
from scipy.stats import bootstrap, kendalltau

import mnas
from mnas.config import Objective, RunConfig, Target, changed
from mnas.data.sources import load_data
from mnas.data.splits import limited
from mnas.estimators.supernet import SupernetEstimator
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.pipeline.plan import partial
from mnas.training.supernet import SupernetTraining

BOOTSTRAPS = 2000
MOST = 10**6


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
    """The supernet and the seconds of its training; kept in `file` where one is named."""
    torch.manual_seed(config.seed)
    supernet = mnas.Supernet(space(), data.num_classes)
    if file is not None and file.exists():
        supernet.load_state_dict(safetensors.torch.load_file(file))
        return supernet, float(file.with_suffix(".txt").read_text())
    began = time.perf_counter()
    training = SupernetTraining(
        supernet, data.train, config.supernet, size_of=lambda arch: arch.resolution, flip=bool(data.flip), device=CPU,
        seed=config.seed,
    )  # fmt: skip
    for interval in training.run():
        print(f"{time.perf_counter() - began:.0f} s", interval, file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    if file is not None:
        state = {name: tensor.contiguous() for name, tensor in supernet.state_dict().items()}
        file.write_bytes(safetensors.torch.save(state))
        file.with_suffix(".txt").write_text(f"{seconds:.1f}")
    return supernet, seconds


def figures(source: str, settings: Sequence[str]) -> dict[str, Any]:
    given = dict(setting.split("=", 1) for setting in settings)
    keep, val_images = given.pop("keep", None), int(given.pop("val_images", MOST))
    config = RunConfig(space="v3_small", targets=(Target(),), objective=Objective(name="", formula="pareto"))
    config = changed(config, given)
    data = load_data(source)
    data = replace(data, train=limited(data.train, IMAGES, 0), val=limited(data.val, val_images, 1))
    truth = json.loads((RESULTS / f"rank_truth_{Path(source).stem}.json").read_text())["figures"]["trainings"]
    archs = architectures()
    seeds = sorted({one["seed"] for one in truth})
    by_seed = {kind: [[one[kind] for seed in seeds for one in truth if (one["id"], one["seed"]) == (arch.id, seed)]
                      for arch in archs] for kind in ("val", "test")}
    found: dict[str, Any] = {"settings": given, "val_images": len(data.val), "estimates": {}}

    def judge(name: str, values: Sequence[float], seconds: float) -> None:
        one = {"values": [round(value, 5) for value in values], "seconds_each": round(seconds / len(values), 2)}
        for kind, reached in by_seed.items():
            one[kind] = with_interval(values, [float(np.mean(both)) for both in reached])
        found["estimates"][name] = one
        print(name, one["val"], one["test"], one["seconds_each"], file=sys.stderr, flush=True)

    for kind, reached in by_seed.items():
        if all(len(both) > 1 for both in reached):
            found[f"ceiling_{kind}"] = with_interval(*zip(*reached, strict=True))
    judge("madds", [mnas.cost(arch).madds for arch in archs], 0)
    judge("params", [mnas.cost(arch).params for arch in archs], 0)
    for score in ("naswot", "synflow"):
        began = time.perf_counter()
        zero = ZeroCostEstimator(space(), data, score, size_of=lambda arch: arch.resolution, device=CPU, seed=0)
        judge(score, [zero.score(arch) for arch in archs], time.perf_counter() - began)
    supernet, found["supernet_s"] = trained_supernet(data, config, None if keep is None else Path(keep))
    finetune = partial(config.finetune, config.finetune_epochs, len(data.train))
    estimator = SupernetEstimator(supernet, data, finetune, size_of=lambda arch: arch.resolution, device=CPU, seed=0)
    for name, estimate in (("inherited", estimator.inherited), ("fine-tuned", estimator.fine_tuned)):
        began = time.perf_counter()
        judge(name, [estimate(arch) for arch in archs], time.perf_counter() - began)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    random.seed(0)
    source, name, *settings = [*sys.argv[1:], "default"] if len(sys.argv) == 2 else sys.argv[1:]
    keep(f"rank_correlation_{Path(source).stem}", name, figures(source, settings))
