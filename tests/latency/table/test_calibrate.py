from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_tables import made_up

from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.measure import Measurement
from mnas.latency.table import calibrate as calibrating
from mnas.latency.table.build import build_table
from mnas.latency.table.calibrate import (
    MeasuredNetworks,
    calibrate,
    calibrated,
    calibration_networks,
    mean_ms,
    table_error,
)
from mnas.latency.table.calibration import Calibration, TableError
from mnas.latency.table.table import LatencyTable
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space

# --- error ------------------------------------------------------------------------------------------------------


def test_table_error_by_hand() -> None:
    # errors -10%, +10%, +50%, 0; ranks 1 2 4 3 and 1 2 3 4: 1 - 6 * 2 / (4 * 15)
    found = table_error(np.array([0.9, 2.2, 6.0, 5.0]), np.array([1.0, 2.0, 4.0, 5.0]))
    assert found == TableError(mean_error=0.175, max_error=0.5, bias=0.125, spearman=0.8)
    exact = table_error(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert exact == TableError(0, 0, 0, 1)
    assert table_error(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])).spearman == -1


def test_spearman_with_equal_values() -> None:
    # ranks 1.5 1.5 3 4 and 1 2 3 4: 4.5 / sqrt(4.5 * 5)
    error = table_error(np.array([2.0, 2.0, 3.0, 7.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert error.spearman == pytest.approx(0.9**0.5, abs=1e-5)


def test_predictions_that_are_all_alike_rank_nothing() -> None:
    assert table_error(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])).spearman == 0


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
    return made_up(entries)


def networks_of(archs: Sequence[Architecture], ms: Sequence[float], **changes: Any) -> MeasuredNetworks:
    measurements = [Measurement(one, 0.1, 30, repeatability=0.02) for one in ms]
    return replace(MeasuredNetworks(archs, measurements, 10, "tiny", (32,)), **changes)


def fitted(table: LatencyTable, archs: Sequence[Architecture], ms: Sequence[float]) -> tuple[float, float, float]:
    fit = fit_of(calibrated(table, networks_of(archs, ms)))
    return fit.offset_ms, fit.factor, fit.error.mean_error


def fit_of(table: LatencyTable) -> Calibration:
    assert table.calibration is not None
    return table.calibration


def test_what_is_judged_is_not_what_was_fitted(table: LatencyTable, space: SearchSpace) -> None:
    archs = calibration_networks(space)
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
    archs = calibration_networks(space)[:15]
    off = [1.0] * 10 + [0.9, 1.1, 1.0, 1.0, 1.2]
    ms = [float(total) * by for total, by in zip(table.layer_sums(archs, 10), off, strict=True)]
    networks = networks_of(archs, ms, resolutions=(48, 32))
    table_then = calibrated(table, networks)
    fit = fit_of(table_then)
    assert (fit.offset_ms, fit.factor) == (pytest.approx(0, abs=1e-4), 1.0)
    assert (fit.networks.fitted, fit.networks.held_out) == (10, 5)
    errors = [1 / by - 1 for by in off[10:]]
    assert (fit.error.max_error, fit.error.mean_error, fit.error.bias) == pytest.approx(
        (max(map(abs, errors)), sum(map(abs, errors)) / 5, sum(errors) / 5), abs=1e-4
    )
    assert (fit.networks.space, fit.networks.resolutions) == ("tiny", (32, 48))
    assert fit.networks.repeatability == pytest.approx(0.02)
    assert fit.networks.anchor_ms == pytest.approx(mean_ms(networks.measurements[:10]))
    assert (fit.networks.unstable, str(fit).endswith("2.0%)")) == ("", True)
    assert fit.is_of(space.with_resolutions((48, 32))) and not fit.is_of(space)
    measurements = [*networks.measurements[:-1], replace(networks.measurements[-1], unstable="busy machine: a game")]
    busy = fit_of(calibrated(table, replace(networks, measurements=measurements)))
    assert str(busy).endswith("busy machine: a game")
    assert table.calibration is None, "the given table is left as it was"
    assert table_then.entries == table.entries
    assert list(table_then.corrected.values()) == pytest.approx(list(table.entries.values()), rel=1e-4)
    table_then.save(tmp_path / "table.yaml")
    assert LatencyTable.load(tmp_path / "table.yaml") == table_then


def test_calibrated_twice_is_as_once(table: LatencyTable, space: SearchSpace) -> None:
    """The correction starts from the layers as measured, whatever was fitted before."""
    archs = calibration_networks(space)
    networks = networks_of(archs, [float(total) * 1.3 for total in table.layer_sums(archs, 10)])
    once = calibrated(table, networks)
    assert calibrated(once, networks) == once


def test_the_networks_of_a_space_are_always_the_same(space: SearchSpace) -> None:
    assert calibration_networks(space) == calibration_networks(space)
    assert all(arch in space for arch in calibration_networks(space))
    assert len(set(calibration_networks(space))) > 10
    both, turned = (calibration_networks(space.with_resolutions(sizes)) for sizes in ((48, 32), (32, 48)))
    assert both == turned


def test_calibrate_here(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FITTED": 3, "HELD_OUT": 3, "ROUNDS": 4}.items():
        monkeypatch.setattr(calibrating, name, value)
    table = build_table(space.layers(10), Conditions("torch"), rng=random.Random(0), rounds=3)
    steps: list[tuple[int, int]] = []
    done = calibrate(table, space, 10, rng=random.Random(0), progress=lambda *at: steps.append(at))
    fit = fit_of(done)
    assert (fit.networks.fitted, fit.networks.held_out, fit.networks.space) == (3, 3, "tiny")
    assert fit.factor > 0
    assert 0 < fit.networks.anchor_ms < 100
    assert done == replace(table, calibration=fit, corrected=done.corrected)
    assert done.corrected.keys() == table.entries.keys()
    fitted = calibration_networks(space)[:3]
    assert {anchor.architecture for anchor in fit.anchors} == set(fitted)
    assert {anchor.num_classes for anchor in fit.anchors} == {10}
    by_anchors = statistics.geometric_mean(anchor.ms for anchor in fit.anchors)
    assert by_anchors == pytest.approx(fit.networks.anchor_ms, rel=1e-4)
    assert steps[-1] == (4, 4)
    assert done.predict(calibration_networks(space)[0], 10) > 0


def test_values_of_one_resolution_are_not_calibrated(table: LatencyTable, space: SearchSpace) -> None:
    table.at_resolution = {32: dict(table.entries)}
    with pytest.raises(BadInput, match="one resolution"):
        calibrate(table, space, 10, rng=random.Random(0))


def test_a_layer_that_is_missing_is_said_before_anything_is_measured(
    table: LatencyTable, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "measure_networks", None)
    del table.entries[calibration_networks(space)[0].layers(10)[0]]
    with pytest.raises(BadInput, match="lacks 1 layer: operator=conv"):
        calibrate(table, space, 10, rng=random.Random(0))
