from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from mnas.errors import BadInput
from mnas.latency.measure import Measurement
from mnas.latency.table import calibrate as calibrating
from mnas.latency.table.build import build_table
from mnas.latency.table.calibrate import Fidelity, calibrate, calibrated, fidelity, mean_ms, networks
from mnas.latency.table.table import LatencyTable
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space

# --- fidelity ---------------------------------------------------------------------------------------------------


def test_fidelity_by_hand() -> None:
    # errors -10%, +10%, +50%, 0; ranks 1 2 4 3 and 1 2 3 4: 1 - 6 * 2 / (4 * 15)
    found = fidelity(np.array([0.9, 2.2, 6.0, 5.0]), np.array([1.0, 2.0, 4.0, 5.0]))
    assert found == Fidelity(mean_error=0.175, max_error=0.5, bias=0.125, spearman=0.8)
    exact = fidelity(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert exact == Fidelity(0, 0, 0, 1)
    assert fidelity(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])).spearman == -1


@given(st.lists(st.tuples(st.sampled_from([1.0, 1.5, 2.0, 3.0, 7.0]), st.floats(1, 9)), min_size=3, max_size=30))
def test_spearman_is_scipys_also_with_equal_values(pairs: list[tuple[float, float]]) -> None:
    predicted, measured = np.array(pairs).T
    assume(len(set(predicted)) > 1 and len(set(measured)) > 1)
    expected = spearmanr(predicted, measured).statistic
    assert fidelity(predicted, measured).spearman == pytest.approx(expected, abs=2e-5)


def test_predictions_that_are_all_alike_rank_nothing() -> None:
    assert fidelity(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])).spearman == 0


def test_mean_of_networks() -> None:
    assert mean_ms([Measurement(2.0, 0, 9), Measurement(8.0, 0, 9)]) == 4.0


# --- calibrated -------------------------------------------------------------------------------------------------


@pytest.fixture
def space(tiny: Path) -> SearchSpace:
    return load_space(str(tiny)).with_resolutions((32,))


@pytest.fixture
def table(space: SearchSpace) -> LatencyTable:
    rng = random.Random(0)
    entries = {layer: rng.uniform(0.1, 3) for layer in sorted(space.layers(10), key=str)}
    return LatencyTable("A board", "torch", "2.13.0", 1, 1, "float32", "2026-01-31", "0.1.0", entries)


def fitted(table: LatencyTable, archs: Sequence[Architecture], ms: Sequence[float]) -> tuple[float, float, float]:
    found = [Measurement(one, 0.1, 30, repeatability=0.01 * i) for i, one in enumerate(ms)]
    fit = calibrated(table, archs, found, num_classes=10, space="tiny", resolutions=(32,)).calibration
    assert fit is not None
    return fit.offset_ms, fit.factor, fit.mean_error


def test_what_is_judged_is_not_what_was_fitted(table: LatencyTable, space: SearchSpace) -> None:
    archs = networks(space)
    assert len(archs) == calibrating.FITTED + calibrating.HELD_OUT
    ms = [0.5 + 1.1 * float(total) for total in table.layer_sums(archs, 10)]
    line_of_all = fitted(table, archs, ms)
    assert line_of_all == pytest.approx((0.5, 1.1, 0), abs=1e-4)
    for i in range(len(archs)):
        offset_ms, factor, mean_error = fitted(table, archs, [one * (1 + 0.5 * (j == i)) for j, one in enumerate(ms)])
        of_the_fit = i < calibrating.FITTED
        assert ((offset_ms, factor) != line_of_all[:2]) == of_the_fit
        if not of_the_fit:
            assert mean_error == pytest.approx((1 - 1 / 1.5) / calibrating.HELD_OUT, abs=1e-4)


def test_what_a_calibration_states(table: LatencyTable, space: SearchSpace, tmp_path: Path) -> None:
    archs = networks(space)[:15]
    sums = table.layer_sums(archs, 10)
    off = [1.0] * 10 + [0.9, 1.1, 1.0, 1.0, 1.2]
    found = [Measurement(float(total) * by, 0.1, 30, repeatability=0.02) for total, by in zip(sums, off, strict=True)]
    done = calibrated(table, archs, found, num_classes=10, space="tiny", resolutions=(48, 32))
    fit = done.calibration
    assert fit is not None
    assert (fit.offset_ms, fit.factor, fit.networks, fit.held_out) == (pytest.approx(0, abs=1e-4), 1.0, 10, 5)
    errors = [1 / by - 1 for by in off[10:]]
    assert (fit.max_error, fit.mean_error, fit.bias) == pytest.approx(
        (max(map(abs, errors)), sum(map(abs, errors)) / 5, sum(errors) / 5), abs=1e-4
    )
    assert (fit.repeatability, fit.space, fit.resolutions) == (pytest.approx(0.02), "tiny", (32, 48))
    assert fit.anchor_ms == pytest.approx(mean_ms(found[:10]))
    assert (fit.unstable, str(fit).endswith("2.0%)")) == ("", True)
    busy = [*found[:-1], replace(found[-1], unstable="busy machine: a game")]
    told = calibrated(table, archs, busy, num_classes=10, space="tiny", resolutions=(32,)).calibration
    assert str(told).endswith("2.0%); the machine was not at rest: busy machine: a game")
    assert table.calibration is None, "the given table is left as it was"
    assert done.entries == table.entries
    assert list(done.corrected.values()) == pytest.approx(list(table.entries.values()), rel=1e-4)
    done.save(tmp_path / "table.yaml")
    assert LatencyTable.load(tmp_path / "table.yaml") == done


def test_calibrated_twice_is_as_once(table: LatencyTable, space: SearchSpace) -> None:
    """The correction is of layers as measured, whatever was fitted before."""
    archs = networks(space)
    found = [Measurement(float(total) * 1.3, 0.1, 30) for total in table.layer_sums(archs, 10)]
    about = {"num_classes": 10, "space": "tiny", "resolutions": (32,)}
    once = calibrated(table, archs, found, **about)
    assert calibrated(once, archs, found, **about) == once


def test_the_networks_of_a_space_are_always_the_same(space: SearchSpace) -> None:
    assert networks(space) == networks(space)
    assert all(arch in space for arch in networks(space))
    assert len(set(networks(space))) > 10
    assert networks(space.with_resolutions((48, 32))) == networks(space.with_resolutions((32, 48)))


def test_calibrate_here(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FITTED": 3, "HELD_OUT": 3, "ROUNDS": 4}.items():
        monkeypatch.setattr(calibrating, name, value)
    table = build_table(space.layers(10), rng=random.Random(0), rounds=3)
    steps: list[tuple[int, int]] = []
    done = calibrate(table, space, 10, rng=random.Random(0), progress=lambda *at: steps.append(at))
    fit = done.calibration
    assert fit is not None
    assert (fit.networks, fit.held_out, fit.space) == (3, 3, "tiny")
    assert fit.factor > 0
    assert 0 < fit.anchor_ms < 100
    assert done == replace(table, calibration=fit, corrected=done.corrected)
    assert done.corrected.keys() == table.entries.keys()
    assert steps[-1] == (4, 4)
    assert done.predict(networks(space)[0], 10) > 0


def test_values_of_one_resolution_are_not_calibrated(table: LatencyTable, space: SearchSpace) -> None:
    table.at_resolution = {32: dict(table.entries)}
    with pytest.raises(BadInput, match="one resolution alone cannot be calibrated"):
        calibrate(table, space, 10, rng=random.Random(0))


def test_a_layer_that_is_missing_is_said_before_anything_is_measured(
    table: LatencyTable, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "measure_networks", None)
    del table.entries[networks(space)[0].layers(10)[0]]
    with pytest.raises(BadInput, match="lacks 1 layer: operator=conv"):
        calibrate(table, space, 10, rng=random.Random(0))
