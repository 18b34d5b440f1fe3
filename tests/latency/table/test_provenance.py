from __future__ import annotations

from dataclasses import replace

import pytest

from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import LatencyTable, differences
from mnas.latency.timing.device import device_name

HERE = LatencyTable(
    device_name(), "torch", get_runtime("torch").version(), 1, 1, "float32", "2026-01-31", "0.1.0"
)  # fmt: skip


def asked(table: LatencyTable, runtime: str = "torch", threads: int = 1, batch: int = 1) -> list[str]:
    return differences(table, runtime=runtime, threads=threads, batch=batch)


def test_a_table_of_this_machine() -> None:
    assert asked(HERE) == []
    elsewhen = replace(HERE, date="2020-01-01", mnas_version="9", clock_mhz=800.0, origin="imported", framed=True)
    assert asked(elsewhen) == [], "neither the day nor who wrote it matters"


@pytest.mark.parametrize(("change", "expected"), [
    ({"threads": 4}, ["threads 4, not 1"]),
    ({"batch": 8}, ["batch 8, not 1"]),
    ({"dtype": "int8"}, ["dtype int8, not float32"]),
    ({"device": "A phone"}, [f"device A phone, not {device_name()}"]),
    ({"runtime_version": "1.0"}, [f"runtime version 1.0, not {HERE.runtime_version}"]),
    ({"framed": True}, ["layers timed in frames, not alone"]),
    ({"threads": 4, "batch": 8}, ["threads 4, not 1", "batch 8, not 1"]),
])  # fmt: skip
def test_each_difference_is_named(change: dict[str, object], expected: list[str]) -> None:
    assert asked(replace(HERE, **change)) == expected


def test_of_another_runtime_the_version_is_not_compared() -> None:
    assert asked(HERE, runtime="onnxruntime", threads=2) == ["runtime torch, not onnxruntime", "threads 1, not 2"]
    phone = replace(HERE, runtime="tflite", runtime_version="2.4", device="Galaxy Note10")
    assert asked(phone) == ["runtime tflite, not torch"]
