from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnas.latency.timing import device
from mnas.latency.timing.device import clock_mhz, device_name


def test_device_name_is_stable_and_has_the_cores() -> None:
    name = device_name()
    device_name.cache_clear()
    assert device_name() == name
    cores = os.cpu_count() or 1
    assert name.endswith(f", {cores} core{'s' if cores > 1 else ''}")
    assert len(name) > len(f", {cores} cores")
    assert "\n" not in name


CPUINFO = {
    "processor\t: 0\nmodel\t\t: 97\nmodel name\t: AMD  EPYC 7B13\ncpu MHz\t\t: 2249.998\n"
    "processor\t: 1\nmodel name\t: AMD EPYC 7B13\ncpu MHz\t\t: 3100.04\n": ("AMD EPYC 7B13", 3100.0),
    "processor\t: 0\nBogoMIPS\t: 108.00\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B\n":
        ("Raspberry Pi 4 Model B", None),
    "processor\t: 0\nmodel name\t: Virtual\ncpu MHz\t\t: 0.000\n": ("Virtual", None),
    "processor\t: 0\ncpu MHz\t\t: unknown\nHardware\t: Qualcomm SM8150\n": ("Qualcomm SM8150", None),
}  # fmt: skip


@pytest.mark.parametrize("content", CPUINFO)
def test_what_the_system_tells(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, **how: content)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert (device._cpu_model(), clock_mhz()) == CPUINFO[content]


def test_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: Path, **how: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert device._cpu_model()
    assert clock_mhz() is None


def test_clock() -> None:
    assert (clock_mhz() or 1000) > 100
