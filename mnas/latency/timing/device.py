"""This machine's name and clock rate. Needs Python 3.8 alone (see rounds)."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path


@functools.lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8
def device_name() -> str:
    """The processor's model and number of cores, such as 'AMD EPYC 7B13, 2 cores'."""
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


def clock_mhz() -> float | None:
    """The processor's current clock rate in MHz; None where the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return round(max(float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")), 1) or None
    except (OSError, ValueError):
        return None
