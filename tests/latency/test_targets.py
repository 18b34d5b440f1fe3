"""Options paired into devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_tables import made_up

from mnas.errors import BadInput
from mnas.latency.targets import pair_targets, targets_and_budgets

PHONE = {"device": "a phone", "runtime": "tflite", "origin": "imported"}


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """The file of an empty table."""

    def write(name: str, **changes: Any) -> Path:
        made_up(**changes).save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize(("budgets", "runtimes", "expected"), [
    (15, "torch", [("torch", 15)]),
    (None, "torch", [("torch", None)]),
    ([15], ["onnxruntime"], [("onnxruntime", 15)]),
    ([15, 6.5], ["torch", "onnxruntime"], [("torch", 15), ("onnxruntime", 6.5)]),
    ((1, 2, 3), ("a", "b", "c"), [("a", 1), ("b", 2), ("c", 3)]),
])  # fmt: skip
def test_budgets_and_runtimes_in_pairs(budgets: Any, runtimes: Any, expected: list[tuple[str, float]]) -> None:
    found = pair_targets(budgets, runtimes, None)
    assert [(target.runtime, target.latency_ms) for target in found] == expected


def test_tables_in_pairs(table: Callable[..., Path]) -> None:
    here, phone, other = table("here.yaml"), table("phone.yaml", **PHONE), table("other.yaml", **PHONE)
    assert [one.runtime for one in pair_targets([1, 2], "torch", [here, phone])] == ["torch", "tflite"]
    mixed = pair_targets([1, 2], ["onnxruntime", None], [None, phone])
    assert [(one.runtime, one.latency_table) for one in mixed] == [("onnxruntime", None), ("tflite", str(phone))]
    assert [one.latency_table for one in pair_targets([1, 2], "torch", [phone, str(other)])] == [str(phone), str(other)]
    assert pair_targets(1, ["torch"], phone)[0].runtime == "tflite"


@pytest.mark.parametrize(("budgets", "runtimes", "message"), [
    (15, ["torch", "onnxruntime"], "2 times --runtime and 1 latency budget"),
    ([1, 2, 3], ["torch", "onnxruntime"], "2 times --runtime and 3 latency budgets"),
    ([1, 2], "torch", "torch"),
    ([1, 2], ["torch", "torch"], "torch"),
    ([1, None], ["torch", "onnxruntime"], "--latency-ms"),
    ([1, -2], ["torch", "onnxruntime"], "-2"),
    (None, ["torch", "onnxruntime"], "2 times --runtime and 1 latency budget"),
])  # fmt: skip
def test_what_does_not_pair(budgets: Any, runtimes: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        pair_targets(budgets, runtimes, None)


@pytest.mark.parametrize(("budgets", "runtimes", "largest", "several"), [
    ([10, 5, 15], "torch", [15], (5, 10, 15)),
    ([10, 5], ["onnxruntime"], [10], (5, 10)),
    ([5, 5.0], "torch", [5], ()),
    (5, "torch", [5], ()),
    (None, "torch", [None], ()),
    ([5, 10], ["torch", "onnxruntime"], [5, 10], ()),
])  # fmt: skip
def test_several_budgets_of_one_device(budgets: Any, runtimes: Any, largest: list[float], several: Any) -> None:
    found = targets_and_budgets(budgets, runtimes, None)
    assert ([target.latency_ms for target in found[0]], found[1]) == (largest, several)


def test_several_budgets_and_one_table(table: Callable[..., Path]) -> None:
    (target,), several = targets_and_budgets([3, 2], "torch", table("phone.yaml", **PHONE))
    assert (target.runtime, target.latency_ms, several) == ("tflite", 3, (2, 3))


@pytest.mark.parametrize("budgets", [[1, -2], [1, float("nan")], [1, None]])
def test_bad_budgets_among_several(budgets: list[float]) -> None:
    with pytest.raises(BadInput):
        targets_and_budgets(budgets, "torch", None)
