"""Clipped gates against HardSigmoid nodes in ONNX Runtime: what it costs that OpenCV reads model.onnx rightly.

    python benchmarks/gate_speed.py --rounds 200

MobileNetV3-Large at 224 px as one ONNX file each, by PyTorch's exporter (pip install onnxscript): gates as clipped
convolutions (mnas/nn/gates.py), and as hard_sigmoid. One thread, one image; the two are timed in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from common import options_parser, save_part

import mnas
from mnas.export.checks import plain_copy
from mnas.latency.runtimes.onnx_session import session
from mnas.nn.gates import clipped_gates

SIZE = 224


def session_of(network: torch.nn.Module) -> Any:
    program = torch.onnx.export(
        network, (torch.zeros(1, 3, SIZE, SIZE),), dynamo=True, verbose=False, opset_version=18, external_data=False
    )
    assert program is not None
    return session(program.model_proto.SerializeToString(), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args(arguments)
    network = plain_copy(mnas.build(mnas.zoo.get("mobilenet_v3_large", resolution=SIZE)).eval())
    sessions = {"clipped": session_of(clipped_gates(network)), "hard_sigmoid": session_of(network)}
    image = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(options.rounds):
        for name, one in sessions.items():
            began = time.perf_counter()
            one.run(None, {one.get_inputs()[0].name: image})
            times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: round(statistics.median(taken), 3) for name, taken in times.items()}
    ratios = sorted(a / b for a, b in zip(times["clipped"], times["hard_sigmoid"], strict=True))
    save_part("gate_speed", "mobilenet_v3_large", {
        "median_ms": medians, "ratio": round(statistics.median(ratios), 3), "rounds": options.rounds,
        "ratio_quartiles": [round(ratios[len(ratios) * q // 4], 3) for q in (1, 3)],
    })  # fmt: skip


if __name__ == "__main__":
    main()
