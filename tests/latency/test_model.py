"""Several devices as one number, and latencies of the user's own function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_tables import FIT, made_up, refitted

import mnas
from mnas.config import Objective, RunConfig, Target
from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.model import DeviceLatency, LatencyModel, _of_target, keeps, latency_model
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.quiet import usable_cores
from mnas.latency.timing.rounds import Measurement
from mnas.run import Run
from mnas.space.architecture import Architecture

ARCH = mnas.zoo.get("mobilenet_v3_small", 0.35, 32)
MS = st.floats(0.01, 100)


def source(ms: Callable[[Architecture], float], budget_ms: float | None, spread: float = 0.0) -> DeviceLatency:
    def measure(archs: Sequence[Architecture]) -> list[Measurement]:
        return [Measurement(ms(arch), spread, 30) for arch in archs]

    return DeviceLatency("a device", Conditions("torch"), budget_ms, ms, measure)


@given(st.lists(st.tuples(MS, MS, st.floats(0, 10)), min_size=1, max_size=4))
def test_one_number_keeps_the_first_budget_where_each_keeps_its_own(devices: list[tuple[float, float, float]]) -> None:
    several = LatencyModel(tuple(source(lambda arch, ms=ms: ms, budget, spread) for ms, budget, spread in devices))
    budget_ms = devices[0][1]
    kept = all(keeps(ms, spread, own) for ms, own, spread in devices)
    near = any(ms + spread == pytest.approx(own, rel=1e-9) for ms, own, spread in devices)
    (found,) = several.measure([ARCH])
    assert near or keeps(found.median_ms, found.spread_ms, budget_ms) == kept
    within = all(ms <= own for ms, own, _ in devices)
    assert any(ms == pytest.approx(own, rel=1e-9) for ms, own, _ in devices) or (
        several.predict(ARCH) <= budget_ms
    ) == within


@given(MS, MS, st.floats(0, 10))
def test_one_device_is_as_it_is(ms: float, budget_ms: float, spread: float) -> None:
    for budget in (budget_ms, None):
        one = LatencyModel((source(lambda arch: ms, budget, spread),))
        assert one.predict(ARCH) == ms
        assert one.measure([ARCH]) == [Measurement(ms, spread, 30)]


def own(answer: Any, tiny: Path) -> LatencyModel:
    config = RunConfig(
        space="tiny.yaml", targets=(Target(latency_ms=3.0),), objective=Objective(name="mnasnet", formula="mnasnet")
    )
    return latency_model(Run(tiny.parent), mnas.load_space(tiny), config, lambda arch: answer, 10)


@pytest.mark.parametrize("answer", [2.5, np.float32(2.5), np.float64(2.5), Fraction(5, 2)])
def test_any_real_number_may_be_the_users_own_latency(answer: Any, tiny: Path) -> None:
    ms = own(answer, tiny).predict(ARCH)
    assert (ms, type(ms)) == (2.5, float)


@pytest.mark.parametrize("latency", ["measured", "table"])
def test_no_search_here_with_more_threads_than_cores(latency: str, tiny: Path) -> None:
    config = RunConfig(
        space="tiny.yaml", targets=(Target(latency_ms=3.0),), threads=1000,
        objective=Objective(name="mnasnet", formula="mnasnet", latency=latency),
    )  # fmt: skip
    with pytest.raises(BadInput, match=rf"--threads 1000: .* {usable_cores()} core"):
        latency_model(Run(tiny.parent), mnas.load_space(tiny), config, None, 10)


@pytest.mark.parametrize("answer", [0, -1.0, np.float32("nan"), float("inf"), "2.5", None, 2j, np.ones(1)])
def test_what_is_no_latency(answer: Any, tiny: Path) -> None:
    with pytest.raises(BadInput, match="latency callable"):
        own(answer, tiny).predict(ARCH)


ANCHORS = (Anchor(ARCH, 10, 2.0),)


@pytest.mark.parametrize(("timed", "here", "anchors"), [
    (False, True, ANCHORS), (False, True, ()), (False, False, ()), (True, True, ()),
])  # fmt: skip
def test_only_a_table_of_this_machine_has_a_speed_to_compare_with(
    timed: bool, here: bool, anchors: tuple[Anchor, ...], tiny: Path
) -> None:
    config = RunConfig(
        space="tiny.yaml", targets=(Target(latency_ms=3.0),), objective=Objective(name="mnasnet", formula="mnasnet")
    )
    kept = replace(FIT, anchors=anchors if here else ANCHORS)
    assert _of_target(config, 0, None if timed else made_up(calibration=kept), here, 10).anchors == anchors
    assert own(2.5, tiny).devices[0].anchors == ()


def test_both_figures_are_scaled_to_the_first_budget() -> None:
    def measure(archs: Sequence[Architecture]) -> list[Measurement]:
        return [Measurement(8.0, 0.5, 30, speed_factor=1.25)]

    slow = DeviceLatency("a board", Conditions("torch"), 20.0, lambda arch: 8.0, measure)
    (found,) = LatencyModel((source(lambda arch: 1.0, 10.0), slow)).measure([ARCH])
    assert (found.median_ms, found.spread_ms, found.measured_ms) == (4.0, 0.25, 5.0)


@pytest.mark.parametrize("unstable", ["", "busy machine: a game"])
def test_an_unstable_table_is_a_caveat(unstable: str, tiny: Path) -> None:
    config = RunConfig(
        space="tiny.yaml", targets=(Target(latency_ms=3.0),), objective=Objective(name="mnasnet", formula="mnasnet")
    )
    device = _of_target(config, 0, made_up(calibration=refitted(FIT, unstable=unstable)), True, 10)
    assert unstable in device.caveat
    assert bool(device.caveat) == bool(unstable)
