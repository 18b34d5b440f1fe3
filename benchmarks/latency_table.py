"""Table against measured latency: 30 random networks of v3_large, for torch and for onnxruntime.

    python benchmarks/latency_table.py [torch] [onnxruntime]

The table is the raw sum over layers. Repeatability is how far two measurements of the same networks differ in this run.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import numpy as np
from common import save

from mnas import load_space
from mnas.latency.build import build_table
from mnas.latency.measure import measure_networks

NETWORKS = 30


def ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.argsort(np.argsort(values))


def fidelity(runtime: str) -> dict[str, float]:
    rng = random.Random(1)
    space = load_space("v3_large")
    archs = [space.sample(rng) for _ in range(NETWORKS)]
    began = time.perf_counter()
    table = build_table(sorted(space.layers(10), key=str), runtime=runtime, rng=rng)
    build_s = time.perf_counter() - began
    first, second = (
        np.array([one.median_ms for one in measure_networks(archs, runtime=runtime, num_classes=10, rng=rng)])
        for _ in range(2)
    )
    measured = (first + second) / 2
    predicted = table.predict_many(archs, 10)
    ratio = predicted / measured
    error = ratio - 1
    return {
        "networks": NETWORKS, "layers": len(table.entries), "build_s": round(build_s, 1),
        "mean_error_percent": round(100 * float(np.abs(error).mean()), 2),
        "largest_error_percent": round(100 * float(np.abs(error).max()), 2),
        "bias_percent": round(100 * float(error.mean()), 2),
        "mean_error_without_bias_percent": round(100 * float(np.abs(ratio / np.median(ratio) - 1).mean()), 2),
        "spearman": round(float(np.corrcoef(ranks(predicted), ranks(measured))[0, 1]), 4),
        "repeatability_percent": round(100 * float(np.abs(first / second - 1).mean()), 2),
    }  # fmt: skip


save("latency_table", {runtime: fidelity(runtime) for runtime in sys.argv[1:] or ["torch", "onnxruntime"]})
