"""Correcting a table's layers by whole networks: a Gaussian process over what the networks have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnas.latency.timing.sections import LEAST_MS
from mnas.space.layer import Layer

LAYER, SIZE, MAP = 0.05, 0.04, 0.04
"""Prior standard deviations of the relative error of a layer's milliseconds (0.05 is 5%): its own error; the error it
shares with layers of its operator and map size; the error it shares with those of them on as many channels (expanded
ones where there are any). In a network a feature map may lie in a farther cache than when the layer is timed."""
NETWORK = 0.012
"""Standard deviation of a whole network's relative error beyond that of its layers."""
SMALLEST = 2
"""Networks of so small a part of the smallest fitted one's sum must still get a time above zero by the fitted line. It
begins below zero where each layer costs something when it is timed that it does not cost in a network: in ONNX Runtime
at 32 to 96 pixels, where a factor alone misses whole networks by 12%, and the line by 6%."""
MAX_CORRECTION = 0.25
"""No layer is corrected by a larger part."""


@dataclass(frozen=True)
class Correction:
    """whole ms = offset_ms + factor * sum over the corrected milliseconds of its layers."""

    offset_ms: float
    factor: float
    layers: dict[Layer, float]
    """Corrected milliseconds of each layer; layers that no network has follow others of their size."""


def correction(
    entries: Mapping[Layer, float], networks: Sequence[Sequence[Layer]], measured: NDArray[np.float64]
) -> Correction:
    """The maximum a posteriori correction of the layers' milliseconds, given (n,) `measured` ms of n networks.

    A Gaussian process over networks, whose covariance comes from shared layers: Rasmussen and Williams, Gaussian
    Processes for Machine Learning, 2006, section 2.7. Where the fitted line is implausible (it falls, or predicts
    negative times) or the sums hardly differ, the correction is a factor alone.
    """
    sums = np.array([sum(entries[layer] for layer in layers) for layers in networks])
    usual = float(np.median(measured / sums))
    priors = {layer: _priors(layer) for layer in entries}
    column = {effect: i for i, effect in enumerate(dict.fromkeys(e for effects in priors.values() for e in effects))}
    shares = np.zeros((len(networks), len(column)))
    for row, layers in zip(shares, networks, strict=True):
        for layer in layers:
            for effect, deviation in priors[layer].items():
                row[column[effect]] += deviation * usual * entries[layer]
    shares /= measured[:, None]
    covariance = shares @ shares.T + NETWORK**2 * np.eye(len(networks))
    whitened = np.linalg.inv(np.linalg.cholesky(covariance))
    line = np.stack([np.ones_like(sums), sums], 1) / measured[:, None]
    ones = np.ones(len(networks))  # predicted over measured of a perfect fit
    offset, factor = np.linalg.lstsq(whitened @ line, whitened @ ones, rcond=None)[0].round(6).tolist()
    if sums.max() < 1.1 * sums.min() or min(factor, offset + factor * sums.min() / SMALLEST) <= 0:
        return Correction(0.0, usual, dict(entries))
    effects = (shares.T @ np.linalg.solve(covariance, ones - line @ [offset, factor])).tolist()
    corrected = {}
    for layer, ms in entries.items():
        error = sum(deviation * effects[column[effect]] for effect, deviation in priors[layer].items())
        change = min(max(error * usual / factor, -MAX_CORRECTION), MAX_CORRECTION)
        corrected[layer] = max(round(ms * (1 + change), 6), LEAST_MS)
    return Correction(offset, factor, corrected)


def _priors(layer: Layer) -> dict[Hashable, float]:
    """The sources of error of a layer's milliseconds, each with its standard deviation."""
    group = layer.operator, layer.size
    return {layer: LAYER, group: SIZE, (*group, layer.hidden or layer.in_channels): MAP}
