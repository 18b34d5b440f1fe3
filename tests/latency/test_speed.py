"""Whole networks at the speed of a table: on machines that are slower or faster than when it was made."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timed_runs import Machine

import mnas
from mnas.latency import speed as speeds
from mnas.latency.conditions import Conditions
from mnas.latency.model import keeps
from mnas.latency.remembered import Remembered
from mnas.latency.runtimes import get_runtime
from mnas.latency.speed import Expectation, MeasuredHere, Speed, at_table_speed, joined, speed_of
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.rounds import Measurement, RoundLimits
from mnas.space.architecture import Architecture
from mnas.space.cost import cost

WIDTHS = (0.35, 0.5, 0.75, 1.0)
ANCHORED = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in WIDTHS]
OTHERS = [mnas.zoo.get("mobilenet_v2", width, 32) for width in (0.5, 0.75, 1.0)]
TORCH = Conditions("torch")


def then(archs: Sequence[Architecture], num_classes: int = 10) -> tuple[Anchor, ...]:
    """The networks as a machine at its usual speed measured them."""
    return tuple(
        Anchor(arch, num_classes, Machine().network_ms(mnas.build(arch, num_classes).eval())) for arch in archs
    )


def here(anchors: Sequence[Anchor] = (), rounds: int = 20) -> MeasuredHere:
    return MeasuredHere(TORCH, RoundLimits(rounds), 10, random.Random(0), tuple(anchors))


def usual_ms(arch: Architecture) -> float:
    return then([arch])[0].ms


# --- the factor -------------------------------------------------------------------------------------------------


@pytest.fixture
def anchors() -> tuple[Anchor, ...]:
    return then(ANCHORED)


def test_a_factor_by_hand(anchors: tuple[Anchor, ...]) -> None:
    # now over then 1.1 and 1.331: geometric mean 1.21; deviation of logarithms sqrt(2) ln(1.1); t(0.975, 1) 12.7062
    now = [Measurement(anchor.ms * by, 0.01 * anchor.ms, 30) for anchor, by in zip(anchors, [1.1, 1.331], strict=False)]
    found = speed_of(anchors[:2], now)
    assert found.factor == pytest.approx(1.21)
    assert found.spread == pytest.approx(12.7062 * math.log(1.1), rel=1e-4)


def test_anchors_that_agree_are_as_sure_as_their_measurements(anchors: tuple[Anchor, ...]) -> None:
    now = [Measurement(anchor.ms * 1.3, anchor.ms * 1.3 * 0.02, 30) for anchor in anchors]
    assert (speed_of(anchors, now).factor, speed_of(anchors, now).spread) == pytest.approx((1.3, 0.02 / 2))
    assert speed_of(anchors[:1], now[:1]).spread == pytest.approx(0.02)


def test_the_interval_holds_the_true_factor_in_95_of_100_cases(anchors: tuple[Anchor, ...]) -> None:
    rng, held = random.Random(0), 0
    for _ in range(2000):
        now = [Measurement(1.2 * anchor.ms * math.exp(rng.gauss(0, 0.02)), 0.0, 30) for anchor in anchors]
        found = speed_of(anchors, now)
        held += abs(math.log(found.factor / 1.2)) <= found.spread
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


@given(st.floats(0.1, 100), st.floats(0, 1), st.floats(0.5, 3), st.floats(0, 0.2))
def test_both_figures_are_kept(ms: float, part: float, factor: float, spread: float) -> None:
    found = at_table_speed(Measurement(ms, part * ms, 30), Speed(factor, spread))
    assert (found.median_ms, found.measured_ms) == pytest.approx((ms / factor, ms))
    assert found.spread_ms / found.median_ms == pytest.approx(math.hypot(part, spread))
    assert at_table_speed(found, Speed(1.0, 0.0)) == replace(found, spread_ms=pytest.approx(found.spread_ms))


# --- on a machine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slowness", [1.3, 0.8])
def test_another_speed_is_put_right(slowness: float, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, usual = then(ANCHORED), [usual_ms(arch) for arch in OTHERS]
    Machine(lambda now: slowness).install(monkeypatch)
    found = here(anchors)(OTHERS)
    assert [one.median_ms for one in found] == pytest.approx(usual)
    assert [one.measured_ms for one in found] == pytest.approx([slowness * ms for ms in usual])
    assert [one.speed_factor for one in found] == pytest.approx([slowness] * len(OTHERS))
    assert all(keeps(one.median_ms, one.spread_ms, 1.01 * ms) for one, ms in zip(found, usual, strict=True))
    assert not any(keeps(one.median_ms, one.spread_ms, 0.99 * ms) for one, ms in zip(found, usual, strict=True))


def test_without_anchors_networks_are_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(lambda now: 1.3).install(monkeypatch)
    (found,) = here()(OTHERS[:1])
    assert (found.median_ms, found.speed_factor) == pytest.approx((1.3 * usual_ms(OTHERS[0]), 1.0))
    assert found.measured_ms == found.median_ms


@pytest.mark.parametrize("slowness", [1.0, 1.3])
def test_a_single_network_that_is_slow_is_not_hidden(slowness: float, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, usual, machine = then(ANCHORED), [usual_ms(arch) for arch in OTHERS], Machine(lambda now: slowness)
    machine.slowed = {cost(OTHERS[1], 10).params: 1.3}
    machine.install(monkeypatch)
    found = here(anchors)(OTHERS)
    assert [one.median_ms for one in found] == pytest.approx([usual[0], 1.3 * usual[1], usual[2]])


def test_an_anchor_that_is_slow_alone_makes_the_figures_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors, machine = then(ANCHORED), Machine()
    machine.slowed = {cost(ANCHORED[2], 10).params: 1.3}
    machine.install(monkeypatch)
    (found,) = here(anchors)(OTHERS[:1])
    assert found.speed_factor == pytest.approx(1.3**0.25)
    assert found.median_ms - found.spread_ms < usual_ms(OTHERS[0]) < found.median_ms + found.spread_ms


# --- beside other work ------------------------------------------------------------------------------------------


def test_a_vague_measurement_and_a_prediction_by_hand() -> None:
    vague = Measurement(3.2, 0.4, 30, speed_factor=2.0)
    found = joined(vague, 3.0, 0.1)  # weights 6.25 and 100
    assert found.median_ms == pytest.approx((6.25 * 3.2 + 100 * 3.0) / 106.25)
    assert found.spread_ms == pytest.approx(106.25**-0.5)
    assert found.measured_ms == pytest.approx(6.4), "what was measured is shown"
    sure = Measurement(3.2, 0.19, 30)
    assert joined(sure, 3.0, 0.1) is sure


@given(st.floats(0.1, 100), st.floats(0.05, 2), st.floats(0.5, 2), st.floats(0.01, 0.2))
def test_together_they_are_surer_than_either(ms: float, spread: float, ratio: float, half_width: float) -> None:
    expected_ms = ms * ratio
    found = joined(Measurement(ms, spread * ms, 30), expected_ms, half_width * expected_ms)
    assert min(ms, expected_ms) * (1 - 1e-9) <= found.median_ms <= max(ms, expected_ms) * (1 + 1e-9)
    assert found.spread_ms <= spread * ms


def test_on_a_busy_machine_the_table_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes interrupt some of the inferences; a network whose layers the table lacks counts as measured."""
    rng, anchors, usual = random.Random(0), then(ANCHORED), [usual_ms(arch) for arch in OTHERS]
    known = {OTHERS[0]: 1.02 * usual[0], OTHERS[1]: 0.98 * usual[1]}
    Machine(lambda now: rng.choice([1.0, 3.0])).install(monkeypatch)
    alone = here(anchors)(OTHERS)
    together = replace(here(anchors), expected=Expectation(known.get, 0.01))(OTHERS)
    assert all(one.spread_ms > 0.1 * one.median_ms for one in alone)
    for one, ms in zip(together[:2], usual, strict=False):
        assert one.median_ms == pytest.approx(ms, rel=0.03)
        assert one.spread_ms < 0.03 * ms
        assert one.measured_ms > 1.1 * ms
    assert together[2].spread_ms > 0.1 * usual[2]
    Machine().install(monkeypatch)
    at_rest = replace(here(anchors), expected=Expectation(known.get, 0.01))(OTHERS)
    assert [one.median_ms for one in at_rest] == pytest.approx(usual), "measured, where that is sure"


def test_on_a_busy_machine_what_an_idle_one_measured_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also of networks whose layers the table lacks; the idle machine runs at another speed than its table."""
    rng, anchors, usual = random.Random(0), then(ANCHORED), [usual_ms(arch) for arch in OTHERS]
    measured = replace(here(anchors), remembered=Remembered(tmp_path / "cache" / "networks.jsonl", "table"))
    Machine(lambda now: 1.2).install(monkeypatch)
    at_rest = measured(OTHERS[:2])
    Machine(lambda now: rng.choice([1.0, 3.0])).install(monkeypatch)
    busy = measured(OTHERS)
    for before, now, ms in zip(at_rest, busy, usual, strict=False):
        assert now.median_ms == pytest.approx(before.median_ms, rel=0.03) == pytest.approx(ms, rel=0.03)
        assert now.spread_ms < 0.04 * ms < 0.1 * ms < now.measured_ms - ms
    assert busy[2].spread_ms > 0.1 * usual[2], "measured for the first time"
    Machine(lambda now: 0.8).install(monkeypatch)
    of_another_table = replace(measured, remembered=Remembered(tmp_path / "cache" / "networks.jsonl", "other"))
    assert of_another_table(OTHERS[:1])[0].median_ms == pytest.approx(usual[0])


def test_anchors_keep_their_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that was made for 1000 classes serves a search for 10: its anchors are those of 1000."""
    anchors = then(ANCHORED, num_classes=1000)
    Machine().install(monkeypatch)
    (found,) = here(anchors)(OTHERS[:1])
    assert (found.speed_factor, found.median_ms) == pytest.approx((1.0, usual_ms(OTHERS[0])))


def test_more_networks_than_are_timed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part has a factor of its own, by anchors in its own rounds."""
    monkeypatch.setattr(speeds, "NETWORKS_AT_ONCE", len(ANCHORED) + 2)
    anchors, usual = then(ANCHORED), [usual_ms(arch) for arch in OTHERS]
    measured: list[int] = []
    machine = Machine(lambda now: 1.0 + len(measured))
    machine.install(monkeypatch)
    real = speeds.measure_networks

    def counted(archs: Sequence[Architecture], *given: object, **more: object) -> list[Measurement]:
        found = real(archs, *given, **more)  # type: ignore[arg-type]
        measured.append(len(archs))
        return found

    monkeypatch.setattr(speeds, "measure_networks", counted)
    found = here(anchors)(OTHERS)
    assert measured == [6, 5]
    assert [one.speed_factor for one in found] == pytest.approx([1, 1, 2])
    assert [one.median_ms for one in found] == pytest.approx(usual)


@pytest.mark.alone
def test_real_networks_on_a_clock_that_runs_three_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    archs = [mnas.zoo.get("mobilenet_v3_small", width, 32) for width in (*WIDTHS, 0.6)]
    adapter = get_runtime("torch")
    real: Callable[..., float] = adapter.timed_ms
    usual = here()(archs)
    anchors = [Anchor(arch, 10, one.median_ms) for arch, one in zip(archs[:4], usual[:4], strict=True)]
    monkeypatch.setattr(adapter, "timed_ms", lambda run, repeats: 3 * real(run, repeats))
    tries: list[Measurement] = []
    while not tries or (len(tries) < 5 and not (tries[-1].speed_factor > 1.5 and near(tries[-1], usual[4]))):
        tries += here(anchors)(archs[4:])  # a busy neighbour may spoil a try
    found = tries[-1]
    assert found.speed_factor > 1.5
    assert near(found, usual[4])
    assert found.measured_ms == pytest.approx(found.median_ms * found.speed_factor)


def near(found: Measurement, usual: Measurement) -> bool:
    return found.median_ms == pytest.approx(usual.median_ms, rel=0.25)
