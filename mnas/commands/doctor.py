"""What `mnas doctor` prints: versions, devices, runtimes, and what is missing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

import torch

from mnas.errors import MissingDependency
from mnas.io.versions import versions
from mnas.latency.runtimes import get_runtime, runtime_names
from mnas.latency.timing.device import device_name

OPTIONAL: Mapping[str, tuple[str, str]] = {
    "torchvision": ("--data torchvision:NAME", "pip install torchvision"),
    "timm": ("--format timm", "pip install timm"),
    "psycopg": ("--storage postgresql://...", "pip install 'mnas[postgresql]'"),
    "pycocotools": ("mean average precision of detections", "pip install 'mnas[detection]'"),
    "optuna_dashboard": ("optuna-dashboard sqlite:///runs/RUN/study.db", "pip install optuna-dashboard"),
}
"""Import name -> what it is for, and the command that installs it."""

_CLIFF = "depthwise 7x7 convolutions take a network about 6 times as long as 3x3, 5x5 ones 1.2 times: --without kernel7"
SLOW: Mapping[str, str] = {"litert": f"2.3: {_CLIFF}", "executorch": f"1.5 (XNNPACK): {_CLIFF}"}
"""Runtime -> what it is known to run slowly, after the version where that was measured."""


def doctor() -> dict[str, Any]:
    """Versions, devices, runtimes, and what is missing with its pip command."""
    runtimes = []
    for name in runtime_names():
        try:
            found = {"version": get_runtime(name).version(), "missing": None}
        except MissingDependency as error:
            found = {"version": None, "missing": str(error)}
        runtimes.append({"name": name, **found, "slow": SLOW.get(name)})
    devices = ["cpu"] + [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()]
    missing = [
        {"package": package, "for": use, "install": command}
        for package, (use, command) in OPTIONAL.items() if importlib.util.find_spec(package) is None
    ]  # fmt: skip
    return {
        "versions": versions(), "python": sys.executable, "device": device_name(), "devices": devices,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "training_threads": torch.get_num_threads(), "runtimes": runtimes, "missing": missing,
    }  # fmt: skip
