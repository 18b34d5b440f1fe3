"""From the sum over a network's layers to the whole network: a small correction, and the error that it leaves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from mnas.latency.timing.sections import LEAST_MS
from mnas.space.layer import Layer


@dataclass(frozen=True)
class Calibration:
    """whole ms = offset_ms + factor * sum over its layers' corrected milliseconds (see `correction`).

    Fitted on some networks of a space, judged on others.
    """

    offset_ms: float
    factor: float
    networks: int
    """Networks of the fit."""
    held_out: int
    """Other networks, on which the figures below were found."""
    mean_error: float
    """Mean of |predicted / measured - 1|."""
    max_error: float
    bias: float
    """Mean of predicted / measured - 1."""
    spearman: float
    """Rank correlation of predicted and measured."""
    repeatability: float
    """Mean of |first / second - 1| of two measurements of the same networks."""
    space: str
    """The space whose networks these were."""
    resolutions: tuple[int, ...]
    """Its input sizes, ascending."""
    date: str
    """Day, such as 2026-01-31."""
    anchor_ms: float
    """Geometric mean of what the networks of the fit took."""
    unstable: str = ""
    """Why what they took may be wrong, such as a busy machine."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    def __str__(self) -> str:
        doubt = f"; the machine was not at rest: {self.unstable}" if self.unstable else ""
        return (
            f"error on {self.held_out} networks not used for the fit: mean {self.mean_error:.1%}, largest "
            f"{self.max_error:.1%}, bias {self.bias:+.1%}, Spearman {self.spearman:.3f} (two measurements of one "
            f"network differ by {self.repeatability:.1%}){doubt}"
        )


LAYER, SIZE, MAP = 0.05, 0.04, 0.04
"""Standard deviation (0.05 is 5%) of what a layer's milliseconds are off: it alone; with all of its operator on maps of
its size; with those of them on as many channels, expanded ones where there are any. In a network a map may lie in a
farther cache than alone."""
NETWORK = 0.012
"""That of what a network is off beside this."""


MOST = 0.25
"""No layer is corrected by more."""


@dataclass(frozen=True)
class Correction:
    """whole ms = offset_ms + factor * sum over the corrected milliseconds of its layers."""

    offset_ms: float
    factor: float
    layers: dict[Layer, float]
    """Milliseconds of each layer for this line; those that no network had follow others of their size."""


def correction(
    entries: Mapping[Layer, float], networks: Sequence[Sequence[Layer]], measured: NDArray[np.float64]
) -> Correction:
    """The likeliest correction of `entries`, the layers' milliseconds, given the (n,) `measured` ones of n networks.

    A Gaussian process over networks, whose covariance is what they have in common: Rasmussen and Williams, Gaussian
    Processes for Machine Learning, 2006, 2.7. Where the line makes no sense, with times that are negative or fall with
    the sum, and where sums hardly differ, networks say little of layers: it is a factor alone.
    """
    sums = np.array([sum(entries[layer] for layer in layers) for layers in networks])
    usual = float(np.median(measured / sums))
    beliefs = {layer: _beliefs(layer) for layer in entries}
    column = {what: i for i, what in enumerate(dict.fromkeys(what for each in beliefs.values() for what in each))}
    shares = np.zeros((len(networks), len(column)))
    for row, layers in zip(shares, networks, strict=True):
        for layer in layers:
            for what, deviation in beliefs[layer].items():
                row[column[what]] += deviation * usual * entries[layer]
    shares /= measured[:, None]
    covariance = shares @ shares.T + NETWORK**2 * np.eye(len(networks))
    whitened = np.linalg.inv(np.linalg.cholesky(covariance))
    line = np.stack([np.ones_like(sums), sums], 1) / measured[:, None]
    ones = np.ones(len(networks))  # predicted over measured, where all is right
    offset, factor = np.linalg.lstsq(whitened @ line, whitened @ ones, rcond=None)[0].round(6).tolist()
    if sums.max() < 1.1 * sums.min() or min(factor, offset + factor * sums.min() / 4) <= 0:
        return Correction(0.0, usual, dict(entries))
    found = (shares.T @ np.linalg.solve(covariance, ones - line @ [offset, factor])).tolist()
    corrected = {}
    for layer, ms in entries.items():
        off = sum(deviation * found[column[what]] for what, deviation in beliefs[layer].items())
        by = min(max(off * usual / factor, -MOST), MOST)
        corrected[layer] = max(round(ms * (1 + by), 6), LEAST_MS)
    return Correction(offset, factor, corrected)


def _beliefs(layer: Layer) -> dict[Hashable, float]:
    """Whatever may be off of a layer's milliseconds, and how far."""
    where = layer.operator, layer.size
    return {layer: LAYER, where: SIZE, (*where, layer.hidden or layer.in_channels): MAP}
