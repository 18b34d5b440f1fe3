"""The machine that measures: its name, its clock."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path


@functools.cache
def device_name() -> str:
    """The processor's model and its cores, such as 'AMD EPYC 7B13, 2 cores'."""
    cores = os.cpu_count() or 1
    return f"{_cpu_model()}, {cores} core{'s' if cores > 1 else ''}"


def _cpu_model() -> str:
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.stdout.strip():
            return shown.stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    described = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for key in ("model name", "model", "hardware", "cpu model"):
        if described.get(key, "").strip("0123456789"):
            return " ".join(described[key].split())
    return platform.processor() or platform.machine() or "unknown processor"
