"""What a table says to leave out: what a device refuses or runs slowly, and nothing where costs are as expected."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from made_up_tables import made_up

from mnas.errors import MissingDependency
from mnas.latency.conditions import Conditions
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.build import build_table
from mnas.latency.table.suggestions import SLOWER, in_words, suggestions
from mnas.latency.table.table import LatencyTable
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer
from mnas.space.space import load_space

SPACE = load_space("v3_large").with_resolutions((160,))
LAYERS = SPACE.layers(10)


def usual(layer: Layer) -> float:
    """Milliseconds on a device without surprises."""
    return 0.01 + layer_madds(layer) / 1e6


def table_of(ms: Callable[[Layer], float], fails: Callable[[Layer], bool] = lambda layer: False) -> LatencyTable:
    return made_up(
        {layer: ms(layer) for layer in LAYERS if not fails(layer)},
        failed={layer: f"no {layer.operator}" for layer in LAYERS if fails(layer)},
    )


def names(table: LatencyTable) -> list[str]:
    return [one.without for one in suggestions(table, LAYERS)]


def test_nothing_is_suggested_where_costs_follow_the_multiply_adds() -> None:
    assert suggestions(table_of(usual)) == []
    assert suggestions(table_of(lambda layer: 0.2 + layer_madds(layer) / 1e7)) == []
    assert in_words([]) == ""


@pytest.mark.parametrize(("name", "has"), [
    ("kernel7", lambda layer: layer.kernel == 7), ("kernel5", lambda layer: layer.kernel == 5),
    ("se", lambda layer: layer.se > 0), ("hard_swish", lambda layer: layer.activation == "hard_swish"),
    ("expand6", lambda layer: layer.hidden == 6 * layer.in_channels),
])  # fmt: skip
def test_a_slow_choice_is_found(name: str, has: Callable[[Layer], bool]) -> None:
    times = 1.25 * SLOWER
    (one,) = suggestions(table_of(lambda layer: usual(layer) * (times if has(layer) else 1)))
    assert one.without == name
    assert one.slower == pytest.approx(times, rel=0.2)
    assert one.layers > 10 and not one.why
    assert suggestions(table_of(lambda layer: usual(layer) * (0.7 * SLOWER if has(layer) else 1))) == []
    SPACE.without([name])  # it can be left out


def test_a_cliff_is_compared_with_the_smallest_kernel() -> None:
    """LiteRT's: 7x7 takes six times as long as 3x3, 5x5 hardly more."""
    (one,) = suggestions(table_of(lambda layer: usual(layer) * {3: 1, 5: 1.2, 7: 6.5}.get(layer.kernel, 1)))
    assert (one.without, one.than) == ("kernel7", "with kernel3")
    row = one.to_dict()
    assert in_words([row]).startswith("suggestion: --without kernel7 (")
    assert row["slower"] == one.slower and row["reason"]


def test_several_are_named_the_slowest_first() -> None:
    table = table_of(lambda layer: usual(layer) * {"hard_swish": 9}.get(layer.activation, 1) * (3 if layer.se else 1))
    assert names(table) == ["hard_swish", "se"]
    assert in_words([one.to_dict() for one in suggestions(table)]).startswith("suggestion: --without hard_swish,se (")


@pytest.mark.parametrize(("expected", "fails"), [
    (["kernel7"], lambda layer: layer.kernel == 7),
    (["kernel7"], lambda layer: layer.kernel == 7 and layer.stride == 2),
    (["se", "hard_swish"], lambda layer: layer.se > 0 or (layer.activation == "hard_swish" and layer.hidden > 0)),
    (["se"], lambda layer: layer.se > 100),
    ([], lambda layer: layer.operator == "linear"),
    ([], lambda layer: True),
])  # fmt: skip
def test_what_failed_is_left_out(expected: list[str], fails: Callable[[Layer], bool]) -> None:
    table = table_of(usual, fails)
    assert names(table) == expected
    left = SPACE.without(expected) if expected else SPACE
    if expected:
        assert not table.missing(layer for layer in left.layers(10) if layer.activation == "relu" and layer.hidden)
        assert all(one.slower is None and one.why.startswith("no ") for one in suggestions(table))


def test_what_failed_comes_first_and_is_not_said_twice() -> None:
    table = table_of(
        lambda layer: usual(layer) * (5 if layer.se or layer.kernel == 7 else 1),
        lambda layer: layer.kernel == 7 and layer.stride == 2,
    )
    assert names(table) == ["kernel7", "se"]


def test_layers_of_other_spaces_do_not_count() -> None:
    table = table_of(lambda layer: usual(layer) * (5 if layer.kernel == 7 else 1))
    assert names(table) == ["kernel7"]
    assert suggestions(table, SPACE.without("kernel7").layers(10)) == []


@pytest.mark.alone
@pytest.mark.parametrize(("runtime", "expected"), [("torch", set()), ("onnxruntime", set()), ("litert", {"kernel7"})])
def test_real_tables(runtime: str, expected: set[str]) -> None:
    """LiteRT's XNNPACK has no depthwise 7x7; the others have no cliff here."""
    try:
        get_runtime(runtime).version()
    except MissingDependency as error:
        pytest.skip(str(error))
    layers = [
        layer for layer in LAYERS
        if (layer.in_channels, layer.activation) == (40, "relu") and layer.hidden in (120, 240) and layer.stride == 1
    ]  # fmt: skip
    table = build_table(layers, Conditions(runtime), rng=random.Random(0), rounds=6)
    found = suggestions(table)
    assert len(table.entries) == len(layers) > 10
    assert {one.without for one in found} == expected
