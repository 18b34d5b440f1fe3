"""The error of predicted latencies: v3_large at 224 pixels, one thread, 40 new random networks.

    python benchmarks/latency_fidelity.py [RUNTIME ...] [ROUNDS]        torch and onnxruntime, 60 rounds by default

A table is built and calibrated as by `mnas latency build`; then networks that it has not seen are measured four times,
with ROUNDS rounds each. `error` compares the prediction with the mean of the four measurements, scaled to the machine's
speed when the table was built (known from the networks of the fit, timed in the same rounds); `error_today` compares it
with the mean as measured. `repeatability` is the difference between two measurements of one network.
The results of other runtimes in the file are kept.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from common import options_parser, save_part
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


def figures(runtime: str, rounds: int) -> dict[str, Any]:
    rng = random.Random(2026)
    space = load_space("v3_large").with_resolutions((224,))
    archs = [space.sample(rng) for _ in range(NETWORKS)]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # accepted=1.0: take the first table, whatever its stated error
        table = table_for(space, CLASSES, Conditions(runtime), path=Path(folder) / "table.yaml", accepted=1.0)
    build_s = time.perf_counter() - began
    calibration = table.calibration
    assert calibration is not None
    fitted = calibration_networks(space)[: calibration.networks.fitted]
    measurements = [
        measure_networks([*archs, *fitted], Conditions(runtime), RoundLimits(rounds), num_classes=CLASSES, rng=rng)
        for _ in range(MEASUREMENTS)
    ]
    slowdowns = [mean_ms(measured[NETWORKS:]) / calibration.networks.anchor_ms for measured in measurements]
    today = np.array([[network.median_ms for network in measured[:NETWORKS]] for measured in measurements])
    then = today / np.array(slowdowns)[:, None]
    predicted = table.predict_many(archs, CLASSES)
    return {
        "version": get_runtime(runtime).version(), "layers": len(table.entries), "failed": len(table.failed),
        "networks": NETWORKS, "rounds": MEASUREMENTS * rounds,
        "median_ms": [round(float(today.min()), 3), round(float(today.max()), 3)],
        "build_and_calibrate_s": round(build_s, 1), "slower": [round(factor, 4) for factor in slowdowns],
        "error": asdict(table_error(predicted, then.mean(0))),
        "repeatability": round(float(differences(then).mean()), 5),
        "repeatability_max": round(float(differences(then).max()), 5),
        "error_today": asdict(table_error(predicted, today.mean(0))),
        "repeatability_today": round(float(differences(today).mean()), 5),
        "error_of_plain_sum": asdict(table_error(table.layer_sums(archs, CLASSES), then.mean(0))),
        "stated": {k: v for k, v in calibration.to_dict().items() if k in (
            "offset_ms", "factor", "mean_error", "max_error", "bias", "spearman", "repeatability")},
        "unstable": sorted({network.unstable for measured in measurements for network in measured if network.unstable}),
    }  # fmt: skip


def differences(ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative differences between the first and second, and the third and fourth, measurement of each network."""
    return np.abs(ms[::2] / ms[1::2] - 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="RUNTIME|ROUNDS")
    words = parser.parse_args(arguments).words
    rounds = next((int(word) for word in words if word.isdigit()), 60)
    for runtime in [word for word in words if not word.isdigit()] or ["torch", "onnxruntime"]:
        save_part("latency_fidelity", runtime, figures(runtime, rounds))


if __name__ == "__main__":
    main()
