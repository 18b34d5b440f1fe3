"""Is the predicted latency the real one? v3_large at 224 pixels, one thread, 40 fresh random networks.

    python benchmarks/latency_fidelity.py [RUNTIME ...] [ROUNDS]        torch and onnxruntime, 60 rounds by default

A table is built and calibrated as `mnas latency build` does it; then other networks are measured four times, in ROUNDS
rounds each. `error`: prediction against the mean of the four at the machine's speed when the table
was made (by the networks of the fit, timed in the same rounds); `error_today`: as measured. `repeatability`: how far
one measurement of a network differs from the next.
The results of runtimes that are not named are kept.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import keep
from numpy.typing import NDArray

from mnas import load_space
from mnas.latency.conditions import Conditions
from mnas.latency.measure import measure_networks
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.cache import table_for
from mnas.latency.table.calibrate import calibration_networks, mean_ms, table_error
from mnas.latency.timing.rounds import RoundLimits

NETWORKS = 40
MEASUREMENTS = 4
CLASSES = 1000
ROUNDS = next((int(word) for word in sys.argv[1:] if word.isdigit()), 60)


def figures(runtime: str) -> dict[str, Any]:
    rng = random.Random(2026)
    space = load_space("v3_large").with_resolutions((224,))
    archs = [space.sample(rng) for _ in range(NETWORKS)]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # the first table, whatever error it states
        table = table_for(space, CLASSES, Conditions(runtime), path=Path(folder) / "table.yaml", accepted=1.0)
    seconds = time.perf_counter() - began
    fit = table.calibration
    assert fit is not None
    fitted = calibration_networks(space)[: fit.networks.fitted]
    parts = [
        measure_networks([*archs, *fitted], Conditions(runtime), RoundLimits(ROUNDS), num_classes=CLASSES, rng=rng)
        for _ in range(MEASUREMENTS)
    ]
    slower = [mean_ms(part[NETWORKS:]) / fit.networks.anchor_ms for part in parts]
    today = np.array([[one.median_ms for one in part[:NETWORKS]] for part in parts])
    then = today / np.array(slower)[:, None]
    predicted = table.predict_many(archs, CLASSES)
    return {
        "version": get_runtime(runtime).version(), "layers": len(table.entries), "failed": len(table.failed),
        "networks": NETWORKS, "rounds": MEASUREMENTS * ROUNDS,
        "median_ms": [round(float(today.min()), 3), round(float(today.max()), 3)],
        "build_and_calibrate_s": round(seconds, 1), "slower": [round(one, 4) for one in slower],
        "error": asdict(table_error(predicted, then.mean(0))),
        "repeatability": round(float(differences(then).mean()), 5),
        "repeatability_max": round(float(differences(then).max()), 5),
        "error_today": asdict(table_error(predicted, today.mean(0))),
        "repeatability_today": round(float(differences(today).mean()), 5),
        "error_of_plain_sum": asdict(table_error(table.layer_sums(archs, CLASSES), then.mean(0))),
        "stated": {k: v for k, v in fit.to_dict().items() if k in (
            "offset_ms", "factor", "mean_error", "max_error", "bias", "spearman", "repeatability")},
        "unstable": sorted({one.unstable for part in parts for one in part if one.unstable}),
    }  # fmt: skip


def differences(ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each first measurement from the second, of each third from the fourth."""
    return np.abs(ms[::2] / ms[1::2] - 1)


for name in [word for word in sys.argv[1:] if not word.isdigit()] or ["torch", "onnxruntime"]:
    keep("latency_fidelity", name, figures(name))
