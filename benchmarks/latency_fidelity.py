"""The error of predicted latencies: v3_large at 224 pixels, one thread, 40 new random networks (20 under a head).

    python benchmarks/latency_fidelity.py [RUNTIME ...] [ROUNDS]        torch and onnxruntime, 60 rounds by default
    python benchmarks/latency_fidelity.py --head lraspp [RUNTIME ...]   20 whole segmentation networks, 21 classes

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
from dataclasses import asdict, dataclass
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
from mnas.space.dense import DenseHead, Outputs, under
from mnas.space.layer import HEADS

MEASUREMENTS = 4
CLASSES = 1000


@dataclass(frozen=True)
class Fidelity:
    """What is predicted and measured."""

    rounds: int = 60
    space: str = "v3_large"
    resolution: int = 224
    outputs: Outputs = CLASSES

    @property
    def networks(self) -> int:
        return 40 if isinstance(self.outputs, int) else 20


def figures(runtime: str, what: Fidelity) -> dict[str, Any]:
    rng = random.Random(2026)
    space = load_space(what.space).with_resolutions((what.resolution,))
    networks, outputs = what.networks, what.outputs
    archs = [space.sample(rng) for _ in range(networks)]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # accepted=1.0: take the first table, whatever its stated error
        table = table_for(space, outputs, Conditions(runtime), path=Path(folder) / "table.yaml", accepted=1.0)
    build_s = time.perf_counter() - began
    calibration = table.calibration
    assert calibration is not None
    fitted = calibration_networks(space)[: calibration.networks.fitted]
    measurements = [
        measure_networks([*archs, *fitted], Conditions(runtime), RoundLimits(what.rounds), num_classes=outputs, rng=rng)
        for _ in range(MEASUREMENTS)
    ]
    slowdowns = [mean_ms(measured[networks:]) / calibration.networks.anchor_ms for measured in measurements]
    today = np.array([[network.median_ms for network in measured[:networks]] for measured in measurements])
    then = today / np.array(slowdowns)[:, None]
    predicted = table.predict_many(archs, outputs)
    return {
        "version": get_runtime(runtime).version(), "layers": len(table.entries), "failed": len(table.failed),
        "networks": networks, "rounds": MEASUREMENTS * what.rounds, "of": under(space.name, outputs),
        "resolution": what.resolution,
        "median_ms": [round(float(today.min()), 3), round(float(today.max()), 3)],
        "build_and_calibrate_s": round(build_s, 1), "slower": [round(factor, 4) for factor in slowdowns],
        "error": asdict(table_error(predicted, then.mean(0))),
        "repeatability": round(float(differences(then).mean()), 5),
        "repeatability_max": round(float(differences(then).max()), 5),
        "error_today": asdict(table_error(predicted, today.mean(0))),
        "repeatability_today": round(float(differences(today).mean()), 5),
        "error_of_plain_sum": asdict(table_error(table.layer_sums(archs, outputs), then.mean(0))),
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
    parser.add_argument("--head", choices=HEADS, help="networks for segmentation or detection")
    parser.add_argument("--space", default="v3_large")
    parser.add_argument("--resolution", type=int, default=224)
    stated = parser.parse_args(arguments)
    words = stated.words
    rounds = next((int(word) for word in words if word.isdigit()), 60)
    what = Fidelity(rounds, stated.space, stated.resolution, DenseHead(stated.head) if stated.head else CLASSES)
    usual = (what.space, what.resolution) == (Fidelity.space, Fidelity.resolution)
    elsewhere = "" if usual else f"_{what.space}_{what.resolution}"
    name = f"latency_fidelity{elsewhere}{f'_{stated.head}' if stated.head else ''}"
    for runtime in [word for word in words if not word.isdigit()] or ["torch", "onnxruntime"]:
        save_part(name, runtime, figures(runtime, what))


if __name__ == "__main__":
    main()
