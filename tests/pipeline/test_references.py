"""The references scaled to a budget: the largest widths that keep it, none dominated, few measurements."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnas
from mnas.errors import BadInput
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.references import WIDTHS, scaled_references
from mnas.space import zoo
from mnas.space.architecture import Architecture

NAMES, SIZES = zoo.kind_of("mobilenet_v3_large"), (32, 48, 64)
SPREAD_MS = 0.01


def ms(arch: Architecture) -> float:
    return mnas.cost(arch).madds / 1e6


class Device:
    """Takes a microsecond for a thousand multiply-adds."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Architecture]] = []

    def __call__(self, archs: Sequence[Architecture]) -> list[Measurement]:
        self.asked.append(archs)
        return [Measurement(ms(arch), SPREAD_MS, 30) for arch in archs]


@given(st.floats(0.3, 60))
def test_each_just_keeps_the_budget_and_none_is_dominated(budget_ms: float) -> None:
    device = Device()
    found = scaled_references(NAMES, SIZES, budget_ms, device)
    pairs = []
    for one in found:
        assert one.latency.median_ms == ms(one.architecture) <= budget_ms - SPREAD_MS
        assert mnas.zoo.load_architecture(one.name) == one.architecture
        name, _, scale = one.name.partition("@")
        width, resolution = scale.split(":")
        pairs.append((name, float(width), int(resolution)))
    for name, width, resolution in pairs:
        wider = [other for other in WIDTHS if other > width]
        unbound = ms(zoo.get(name, 1.0, max(SIZES))) <= budget_ms - SPREAD_MS
        if wider and not unbound:
            assert ms(zoo.get(name, wider[0], resolution)) > budget_ms - SPREAD_MS, "the next width does not keep it"
        if unbound:
            assert (width, resolution) == (1.0, max(SIZES)), "room is left: no network larger than the reference"
        others = [pair for pair in pairs if pair[0] == name and pair != (name, width, resolution)]
        assert not any(more_width >= width and pixels >= resolution for _, more_width, pixels in others)
    assert len({one.name for one in found}) == len(found)
    assert len(device.asked) <= 4, "all networks of a step together"
    for name in NAMES:
        smallest = min(ms(zoo.get(name, WIDTHS[0], size)) for size in SIZES)
        assert any(pair[0] == name for pair in pairs) == (smallest <= budget_ms - SPREAD_MS)


@given(st.floats(0.3, 60))
def test_at_the_images_own_size_no_network_is_wider_than_published(budget_ms: float) -> None:
    found = scaled_references(NAMES, SIZES, budget_ms, Device(), own=48)
    usual = scaled_references(NAMES, SIZES, budget_ms, Device())
    for one in found:
        assert one.architecture.resolution != 48 or float(one.name.split("@")[1].split(":")[0]) <= 1
    if ms(zoo.get(NAMES[0], 1.0, 48)) <= budget_ms - SPREAD_MS < ms(zoo.get(NAMES[0], 1.0, 64)):
        assert f"{NAMES[0]}@1:48" in [one.name for one in found]
    others = [{one.name for one in group if one.architecture.resolution != 48} for group in (found, usual)]
    assert others[0] >= others[1]


def test_where_there_is_room_left_no_smaller_size_is_wider_than_published() -> None:
    """Also where the images' own size is the largest one."""
    assert [one.name for one in scaled_references(NAMES[:1], SIZES, 1000, Device(), own=64)] == [f"{NAMES[0]}@1:64"]


def test_limits_beside_the_latency() -> None:
    most = mnas.cost(zoo.get("mobilenet_v3_small", 0.5, 32)).params
    found = scaled_references(NAMES, SIZES, 1000, Device(), lambda arch: mnas.cost(arch).params <= most)
    assert [one.name for one in found] == ["mobilenet_v3_small@0.5:64"]


def test_what_a_table_lacks_is_left_out() -> None:
    """Such as that of a phone, which has the networks at full width alone."""

    def predict(archs: Sequence[Architecture]) -> list[Measurement]:
        known = [zoo.get("mobilenet_v3_large", 1.0, size) for size in SIZES]
        if any(arch not in known for arch in archs):
            raise BadInput("the table lacks a layer")
        return Device()(archs)

    found = scaled_references(NAMES, SIZES, ms(zoo.get("mobilenet_v3_large", 1.0, 48)) + 0.1, predict)
    assert [one.name for one in found] == ["mobilenet_v3_large@1:48"]


@pytest.mark.parametrize(("name", "others"), [
    ("mobilenet_v3_small", {"mobilenet_v3_large"}), ("mobilenet_v2", set()),
    ("mnasnet_b1", {"mnasnet_a1", "mnasnet_small"}),
])  # fmt: skip
def test_kinds(name: str, others: set[str]) -> None:
    assert zoo.kind_of(name)[0] == name
    assert set(zoo.kind_of(name)[1:]) == others
