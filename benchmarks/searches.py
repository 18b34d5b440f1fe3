"""Whole searches as a user runs them: what was found, against the space's reference network, and how long it took.

    python benchmarks/searches.py default
    python benchmarks/searches.py fashion path/to/fashion_mnist.npz
    python benchmarks/searches.py cifar path/to/cifar10

`default` is `mnas search --space v3_large --latency-ms 15`; the others search v3_small at 32 to 64 px for ten minutes.
"""

from __future__ import annotations

import json
import os
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


def search(options: list[str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        # a cache of its own: the latency table is built within the time
        environment = os.environ | {"XDG_CACHE_HOME": folder}
        command = [sys.executable, "-m", "mnas", "search", *options, "--run", str(Path(folder) / "run"), "--json"]
        began = time.perf_counter()
        done = subprocess.run(["/usr/bin/time", "-v", *command], env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout)
        peak = next(line for line in done.stderr.splitlines() if "Maximum resident" in line)
        log = (Path(folder) / "run" / "run.log").read_text().replace(folder, "FOLDER")
    return {
        "wall_s": round(seconds, 1), "peak_memory_mb": round(int(peak.split()[-1]) / 1024),
        "networks": found["networks"], "search": found["search"], "latency": found["latency"],
        "accuracy": found["accuracy"], "log": [line.split(" ", 3)[-1] for line in log.splitlines()],
    }  # fmt: skip


kind, *source = sys.argv[1:] or ["default"]
options = ["--space", "v3_large", "--latency-ms", "15"] if kind == "default" else [*SMALL, "--data", *source]
save(f"search_{kind}", search(options))
