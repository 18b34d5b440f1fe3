"""Whole searches as a user runs them: the network found, the space's reference network, and the time taken.

    python benchmarks/searches.py default
    python benchmarks/searches.py fashion path/to/fashion_mnist.npz
    python benchmarks/searches.py cifar path/to/cifar10
    python benchmarks/searches.py gpu path/to/cifar10          on a machine with an NVIDIA GPU

`default` is `mnas search --space v3_large --latency-ms 15`. `fashion` and `cifar` search v3_small at 32 to 64 px for
ten minutes. `gpu` trains on the GPU for 150 seconds in all, and searches v3_small at 32 and 64 px; its budget is the
latency of MobileNetV3-Small at 64 px in ONNX Runtime on that machine's processor.
"""

from __future__ import annotations

import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import options_parser, save

DEFAULT = ["--space", "v3_large", "--latency-ms", "15"]
SMALL = [
    "--space", "v3_small", "--resolution", "32,48,64", "--proxy-resolution", "64", "--latency-ms", "2",
    "--budget", "10m",
]  # fmt: skip
GPU = ["--space", "v3_small", "--resolution", "32,64", "--runtime", "onnxruntime", "--device", "cuda"]
GPU += ["--budget", "150s"]
# small networks on small images: without large batches a GPU waits for its next kernel
GPU += [word for part in ("supernet", "finetune", "recipe") for word in ("--set", f"{part}.batch_size=256")]


def mnas_json(arguments: Sequence[str], **environment: str) -> dict[str, Any]:
    """The JSON of one `mnas` command; a failed command ends the benchmark with its exit code."""
    command = [sys.executable, "-m", "mnas", *arguments, "--json"]
    completed = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    if completed.returncode:
        sys.exit(completed.returncode)
    return json.loads(completed.stdout)


def reference_budget() -> list[str]:
    """The latency of MobileNetV3-Small at 64 px in ONNX Runtime, as an option."""
    measured = mnas_json([
        "latency", "measure", "mobilenet_v3_small", "--resolution", "64", "--runtime", "onnxruntime"
    ])  # fmt: skip
    return ["--latency-ms", f"{measured['networks'][0]['latency_ms']:.4f}"]


def search(options: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        began = time.perf_counter()
        # an empty cache, so that the time includes building the latency table
        result = mnas_json(["search", *options, "--run", str(run)], XDG_CACHE_HOME=folder)
        seconds = time.perf_counter() - began
        peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        log = (run / "run.log").read_text().replace(folder, "FOLDER")
    return {
        "wall_s": round(seconds, 1), "peak_memory_mb": round(peak_kb / 1024),
        "networks": result["networks"], "search": result["search"], "latency": result["latency"],
        "accuracy": result["accuracy"], "log": with_seconds(log.splitlines()),
    }  # fmt: skip


def with_seconds(lines: Sequence[str]) -> list[str]:
    """The lines of a log, each with the seconds since the first one in place of its date."""
    times = [datetime.datetime.fromisoformat(" ".join(line.split()[:2])) for line in lines]
    return [
        f"{(moment - times[0]).total_seconds():.0f} s: {line.split(' ', 3)[-1]}"
        for moment, line in zip(times, lines, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("kind", choices=("default", "fashion", "cifar", "gpu"), nargs="?", default="default")
    parser.add_argument("data", nargs="?", help="the images; not for `default`")
    options = parser.parse_args(arguments)
    if options.kind != "default" and options.data is None:
        parser.error(f"{options.kind} needs the path of its data")
    match options.kind:
        case "default":
            words = DEFAULT
        case "gpu":
            words = [*GPU, *reference_budget(), "--data", options.data]
        case _:
            words = [*SMALL, "--data", options.data]
    save(f"search_{options.kind}", search(words))


if __name__ == "__main__":
    main()
