"""Values that users write."""

from __future__ import annotations

import pytest

from mnas.config import Objective, parse_count, parse_duration, positive_ms
from mnas.errors import BadInput
from mnas.io.strict_yaml import validate


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h30m15s", 5415), ("1.5h", 5400), (" 2H ", 7200),
    ("0h1s", 1),
])  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", [
    "", "30", "0s", "0h0m", "-5m", "1e3s", "30 m", "m", "1m1h", "1d", "inf", "nanh", "9" * 400 + "h",
])  # fmt: skip
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_duration(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize("value", [15, 0.5, 1e-9])
def test_latency_budgets(value: float) -> None:
    assert positive_ms(value) == value
    assert isinstance(positive_ms(value), float)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), float("-inf")])
def test_latency_budgets_that_are_refused(value: float) -> None:
    with pytest.raises(BadInput, match=f"{value} ms"):
        positive_ms(value)


@pytest.mark.parametrize(("text", "count"), [
    ("5M", 5_000_000), ("300m", 300_000_000), ("1.5G", 1_500_000_000), ("20k", 20_000), ("7", 7), (" 2.5K ", 2500),
    ("40e6", 40_000_000), ("1E+3", 1000),
])  # fmt: skip
def test_counts(text: str, count: int) -> None:
    assert parse_count(text, "--max-params") == count


@pytest.mark.parametrize("text", ["", "0", "0.2", "-3", "5 M", "5MB", "many", "1e-6", "1e6M", "nan", "inf", "9" * 30])
def test_counts_that_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=f"--max-params {text}: "):
        parse_count(text, "--max-params")


def test_exponents_are_finite() -> None:
    with pytest.raises(BadInput):
        validate(Objective, {"name": "o", "formula": "mnasnet", "alpha": float("inf")}, "f")
