"""Whole searches as a user runs them: what was found, against the space's reference network, and how long it took.

    python benchmarks/searches.py default
    python benchmarks/searches.py fashion path/to/fashion_mnist.npz
    python benchmarks/searches.py cifar path/to/cifar10
    python benchmarks/searches.py gpu path/to/cifar10          on a machine with an NVIDIA GPU

`default` is `mnas search --space v3_large --latency-ms 15`; the next two search v3_small at 32 to 64 px for ten
minutes. `gpu` trains on the GPU for 150 seconds in all, and searches v3_small at 32 and 64 px for what is as fast as
MobileNetV3-Small at 64 px in ONNX Runtime on that machine's processor.
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
from pathlib import Path

from common import save

SMALL = [
    "--space", "v3_small", "--resolution", "32,48,64", "--proxy-resolution", "64", "--latency-ms", "2",
    "--budget", "10m",
]  # fmt: skip

GPU = ["--space", "v3_small", "--resolution", "32,64", "--runtime", "onnxruntime", "--device", "cuda"]
GPU += ["--budget", "150s"]
# small networks on small images: a GPU waits for its next kernel unless batches are large
GPU += [word for part in ("supernet", "finetune", "recipe") for word in ("--set", f"{part}.batch_size=256")]


def within_the_reference() -> list[str]:
    """The budget that MobileNetV3-Small keeps at 64 px."""
    command = ["latency", "measure", "mobilenet_v3_small", "--resolution", "64", "--runtime", "onnxruntime", "--json"]
    found = subprocess.run([sys.executable, "-m", "mnas", *command], stdout=subprocess.PIPE, text=True)
    if found.returncode:
        sys.exit(found.returncode)
    return ["--latency-ms", f"{json.loads(found.stdout)['networks'][0]['latency_ms']:.4f}"]


def search(options: list[str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        # a cache of its own: the latency table is built within the time
        environment = os.environ | {"XDG_CACHE_HOME": folder}
        command = [sys.executable, "-m", "mnas", "search", *options, "--run", str(Path(folder) / "run"), "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(done.returncode)
        found = json.loads(done.stdout)
        peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        log = (Path(folder) / "run" / "run.log").read_text().replace(folder, "FOLDER")
    return {
        "wall_s": round(seconds, 1), "peak_memory_mb": round(peak_kb / 1024),
        "networks": found["networks"], "search": found["search"], "latency": found["latency"],
        "accuracy": found["accuracy"], "log": since_the_first(log.splitlines()),
    }  # fmt: skip


def since_the_first(lines: list[str]) -> list[str]:
    """The lines of a log, each with its seconds since the first one."""
    found = [(datetime.datetime.fromisoformat(" ".join(line.split()[:2])), line.split(" ", 3)[-1]) for line in lines]
    return [f"{(when - found[0][0]).total_seconds():.0f} s: {what}" for when, what in found]


kind, *source = sys.argv[1:] or ["default"]
match kind:
    case "default":
        options = ["--space", "v3_large", "--latency-ms", "15"]
    case "gpu":
        options = [*GPU, *within_the_reference(), "--data", *source]
    case _:
        options = [*SMALL, "--data", *source]
save(f"search_{kind}", search(options))
