from __future__ import annotations

from typing import Any

import pytest

from mnas.monitor.figures import decimals
from mnas.monitor.files import remarks


def row(format: str, precision: str = "fp32", **more: Any) -> dict[str, Any]:
    return {"format": format, "precision": precision, "input": "images", "status": "ok", **more}


def test_what_all_latencies_have_in_common_is_said_once() -> None:
    rows = [
        row("onnx", latency_ms=1.0, unstable="busy; slower"),
        row("litert", "int8", input="pixels", latency_ms=1.0, unstable="busy; slower; varies"),
        row("safetensors"),
    ]
    first, second = remarks(rows)
    assert "busy; slower" in first and "onnx" not in first and "varies" not in first
    assert second.startswith("litert int8, pixels: ") and second.endswith(": varies")
    (one,) = remarks(rows[:1])
    assert one.startswith("onnx fp32: ") and "busy; slower" in one
    assert remarks([rows[0], row("litert", latency_ms=2.0, unstable="")]) == [one]


def test_int8_beside_float32() -> None:
    operators = {"Mul": 9, "Conv": 1, "HardSigmoid": 12, "Add": 2, "Pad": 1}
    slow, dear, kept = remarks([
        row("onnx", "int8", of_float32=0.8, pays=False, accuracy_lost=0.02, float_operators=operators,
            kept_in_float=["stem.conv"]),
    ])  # fmt: skip
    assert "0.80" in slow and "12 HardSigmoid, 9 Mul, 2 Add, 1 Conv" in slow and "Pad" not in slow
    assert "2.0 points" in dear
    assert "stem.conv" in kept
    (fast,) = remarks([row("litert", "int8", of_float32=0.4, pays=True, accuracy_lost=0.005, kept_in_float=[])])
    assert "0.40" in fast and "operators" not in fast


def test_a_failure_is_said_below_the_table() -> None:
    assert remarks([row("timm", status="its converter failed"), row("onnx")]) == ["timm fp32: its converter failed"]


@pytest.mark.parametrize(("half", "expected"), [(0, 2), (3, 2), (0.01, 2), (0.0099, 3), (0.001, 3), (0.0002, 4)])
def test_milliseconds_show_their_uncertainty(half: float, expected: int) -> None:
    assert decimals(half) == expected
    assert half == 0 or float(f"{half:.{expected}f}") > 0
