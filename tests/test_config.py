"""Values that users write."""

from __future__ import annotations

import pytest

from mnas.config import (
    Objective,
    Recipe,
    RunConfig,
    SupernetRecipe,
    Target,
    load_objective,
    parse_count,
    parse_duration,
    positive_ms,
    recipe_with,
    with_keys,
)
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


OFF = {
    "ratio": 1.0, "trivial_augment": None, "mixup": 0.0, "cutmix": 0.0, "drop_path": 0.0, "class_weights": "none",
    "patience": None, "min_steps": 3000,
}  # fmt: skip


@pytest.mark.parametrize(("part", "ema"), [("recipe", 0.99), ("supernet", 0.99), ("proxy", 0.0), ("finetune", 0.0)])
def test_parts_of_a_recipe_are_off_unless_stated(part: str, ema: float) -> None:
    recipe = RunConfig.model_fields[part].default
    assert {name: getattr(recipe, name) for name in OFF} == OFF
    assert recipe.ema == ema


@pytest.mark.parametrize(("key", "value"), [
    ("ratio", "0.9"), ("ratio", ".inf"), ("mixup", "-1.0"), ("cutmix", ".nan"), ("drop_path", "1.0"),
    ("drop_path", "-0.1"), ("class_weights", "balanced"), ("ema", "1.0"), ("patience", "0"), ("min_steps", "-1"),
    ("min_steps", "1.5"), ("trivial_augment", "1"),
])  # fmt: skip
def test_parts_of_a_recipe_that_are_refused(key: str, value: str) -> None:
    for model in (Recipe(), SupernetRecipe()):
        with pytest.raises(BadInput, match=f"--set {key}"):
            with_keys(model, {key: value})


def test_weights_of_the_classes_as_stated() -> None:
    assert recipe_with(None) == Recipe()
    assert recipe_with("auto") == Recipe(class_weights="auto")


def test_mirroring_is_stated_once() -> None:
    config = RunConfig(space="v3_small", targets=(Target(latency_ms=1.0),), objective=load_objective("mnasnet"))
    parts = ("recipe", "supernet", "finetune", "proxy")
    assert {getattr(config, part).flip for part in parts} == {None}
    stated = with_keys(config, {"recipe.flip": "false"})
    assert {getattr(stated, part).flip for part in parts} == {False}
    mixed = with_keys(config, {"proxy.flip": "true", "recipe.flip": "false"})
    assert [getattr(mixed, part).flip for part in parts] == [False, False, False, True]
