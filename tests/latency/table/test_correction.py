from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnas.latency.table import correction as correcting
from mnas.latency.table.correction import Correction, correction
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer
from mnas.space.space import load_space

milliseconds = st.floats(0.05, 500)


# --- the line: networks that have nothing in common ----------------------------------------------------------------


def lone(sums: Sequence[float], measured: Sequence[float]) -> Correction:
    """The correction by networks of a single layer each."""
    layers = [Layer("conv", 1 + i, 3, 8) for i in range(len(sums))]
    entries = dict(zip(layers, sums, strict=True))
    found = correction(entries, [[layer] for layer in layers], np.array(measured))
    assert found.layers.keys() == entries.keys()
    return found


@given(st.floats(0, 5), st.floats(0.5, 2), st.lists(milliseconds, min_size=3, max_size=20))
def test_a_known_line_is_found_again(offset_ms: float, factor: float, sums: list[float]) -> None:
    assume(max(sums) > 1.2 * min(sums))
    found = lone(sums, [offset_ms + factor * one for one in sums])
    assert (found.offset_ms, found.factor) == pytest.approx((offset_ms, factor), rel=1e-4, abs=1e-4)
    assert list(found.layers.values()) == pytest.approx(sums, rel=1e-3)


def test_errors_weigh_by_their_share_of_the_latency() -> None:
    found = lone([1.0, 1.0, 2.0, 2.0, 100.0, 100.0], [1.0, 1.0, 2.0, 2.0, 90.0, 110.0])
    assert (found.offset_ms, found.factor) == pytest.approx((0, 0.99), abs=0.05)


@pytest.mark.parametrize(("sums", "measured", "factor"), [
    ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], 1.0),  # falls
    ([2.0, 3.0, 4.0], [1.0, 3.0, 5.0], 1.0),  # passes below zero
    ([2.0, 2.1, 2.0], [3.0, 3.9, 3.1], 1.55),  # sums that hardly differ
])  # fmt: skip
def test_where_a_line_makes_no_sense_a_factor_is_fitted(
    sums: list[float], measured: list[float], factor: float
) -> None:
    found = lone(sums, measured)
    assert (found.offset_ms, found.factor) == (0.0, pytest.approx(factor))
    assert list(found.layers.values()) == sums


@given(st.lists(st.tuples(milliseconds, milliseconds), min_size=1, max_size=20))
def test_nothing_is_predicted_to_take_no_time(pairs: list[tuple[float, float]]) -> None:
    sums, measured = zip(*pairs, strict=True)
    found = lone(sums, measured)
    assert found.factor > 0
    assert found.offset_ms + found.factor * min(sums) / correcting.SMALLEST > 0
    for before, after in zip(sums, found.layers.values(), strict=True):
        assert abs(after / before - 1) <= correcting.MAX_CORRECTION + 1e-4


# --- layers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archs() -> list[Architecture]:
    space, rng = load_space("v3_large").with_resolutions((224,)), random.Random(0)
    return [space.sample(rng) for _ in range(140)]


def entries_of(archs: Sequence[Architecture], seed: int) -> dict[Layer, float]:
    """Random milliseconds, more of large maps."""
    rng = random.Random(seed)
    layers = dict.fromkeys(layer for arch in archs for layer in arch.layers(10))
    return {layer: rng.uniform(0.5, 1.5) * (0.01 + 1e-6 * layer.size**2 * layer.hidden) for layer in layers}


def sums_of(ms: dict[Layer, float], networks: Sequence[Sequence[Layer]]) -> NDArray[np.float64]:
    return np.array([sum(ms[layer] for layer in layers) for layers in networks])


def test_is_the_ridge_regression_that_it_stands_for(archs: list[Architecture]) -> None:
    """The covariance of networks gives what least squares over line and layers give, with each layer's own penalty."""
    networks, entries = [arch.layers(10) for arch in archs[:30]], entries_of(archs, 0)
    rng = np.random.default_rng(0)
    sums = sums_of(entries, networks)
    measured = (0.5 + 1.1 * sums) * rng.normal(1, 0.03, len(sums))
    found = correction(entries, networks, measured)
    usual = np.median(measured / sums)
    columns = [*entries, *{(one.operator, one.size) for one in entries},
               *{(one.operator, one.size, one.hidden or one.in_channels) for one in entries}]  # fmt: skip
    deviations = [correcting.LAYER if isinstance(one, Layer) else (correcting.SIZE, correcting.MAP)[len(one) - 2]
                  for one in columns]  # fmt: skip
    index = {what: i for i, what in enumerate(columns)}
    takes = np.zeros((len(entries), len(columns)))
    for row, (layer, ms) in zip(takes, entries.items(), strict=True):
        group = layer.operator, layer.size, layer.hidden or layer.in_channels
        for what in (layer, group[:2], group):
            row[index[what]] = ms * deviations[index[what]]
    which = {layer: i for i, layer in enumerate(entries)}
    shares = usual * np.array([sum(takes[which[one]] for one in layers) for layers in networks]) / measured[:, None]
    line = np.stack([np.ones_like(sums), sums], 1) / measured[:, None]
    fitted = np.hstack([line, shares]) / correcting.NETWORK
    penalties = np.hstack([np.zeros((len(columns), 2)), np.eye(len(columns))])
    target = np.concatenate([np.ones(len(sums)) / correcting.NETWORK, np.zeros(len(columns))])
    offset, factor, *off = np.linalg.lstsq(np.vstack([fitted, penalties]), target, rcond=None)[0]
    assert (found.offset_ms, found.factor) == pytest.approx((offset, factor), rel=1e-4)
    expected = np.array(list(entries.values())) + usual / factor * takes @ off
    assert list(found.layers.values()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("of_layers", "of_sizes", "left"), [(0.05, 0.05, 0.9), (0.0, 0.05, 0.6)])
def test_networks_correct_the_layers_that_are_off(
    archs: list[Architecture], of_layers: float, of_sizes: float, left: float
) -> None:
    """Predictions of other networks than those of the fit are closer than by a line alone."""
    networks = [arch.layers(10) for arch in archs]
    by_line, corrected = [], []
    for seed in range(8):
        rng = random.Random(seed)
        truth = entries_of(archs, seed)
        by_size = {size: rng.gauss(1, of_sizes) for size in sorted({layer.size for layer in truth})}
        entries = {layer: ms * by_size[layer.size] * rng.gauss(1, of_layers) for layer, ms in truth.items()}
        measured = 0.3 + sums_of(truth, networks)
        found = correction(entries, networks[:40], measured[:40])
        sums, after = sums_of(entries, networks), sums_of(found.layers, networks)
        line = np.stack([np.ones_like(sums), sums], 1) / measured[:, None]
        plain = line[40:] @ np.linalg.lstsq(line[:40], np.ones(40), rcond=None)[0]
        by_line.append(np.abs(plain - 1).mean())
        corrected.append(np.abs((found.offset_ms + found.factor * after[40:]) / measured[40:] - 1).mean())
    assert np.mean(corrected) < left * np.mean(by_line)


def test_a_layer_that_no_network_had_follows_others_of_its_size(archs: list[Architecture]) -> None:
    truth = entries_of(archs, 0)
    entries = {layer: ms * (0.9 if layer.size == 14 else 1.0) for layer, ms in truth.items()}
    new = Layer("mbconv", 14, 9, 9, kernel=3, activation="relu", hidden=9)
    elsewhere = Layer("mbconv", 13, 9, 9, kernel=3, activation="relu", hidden=9)
    networks = [arch.layers(10) for arch in archs]
    measured = sums_of(truth, networks)
    found = correction(entries | {new: 1.0, elsewhere: 1.0}, networks, measured)
    assert found.factor * found.layers[new] == pytest.approx(1 / 0.9, abs=0.04)
    assert found.layers[elsewhere] == 1.0


def test_no_layer_is_corrected_beyond_belief(archs: list[Architecture]) -> None:
    """One that networks show to take a hundred times as long stays within a quarter."""
    entries = entries_of(archs, 0)
    networks = [arch.layers(10) for arch in archs]
    much = next(layer for layer in networks[0] if 20 < sum(layer in layers for layers in networks) < 120)
    found = correction(entries, networks, sums_of(entries | {much: 100 * entries[much]}, networks))
    assert found.layers[much] == pytest.approx((1 + correcting.MAX_CORRECTION) * entries[much], rel=1e-3)
