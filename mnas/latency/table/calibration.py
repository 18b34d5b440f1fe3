"""A calibration: the line from layer sums to whole networks, fitted on measured networks, and its error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.io.size import Size, in_order, written
from mnas.latency.table.anchors import Anchor
from mnas.space.dense import Outputs, under
from mnas.space.space import SearchSpace

LEAST = 0.1
"""Part of factor * sum that a network takes at least, where the line has come near zero."""


@dataclass(frozen=True)
class TableError:
    """The error of predicted latencies against measured ones of the same networks."""

    mean_error: float
    """Mean of |predicted / measured - 1|: 0.01 is 1%."""
    max_error: float
    bias: float
    """Mean of predicted / measured - 1."""
    spearman: float
    """Rank correlation of predicted and measured."""


@dataclass(frozen=True)
class CalibrationNetworks:
    """The measured networks behind a calibration."""

    fitted: int
    """Number of networks that the correction was fitted on."""
    held_out: int
    """Number of other networks, on which the error was measured."""
    space: str
    """Name of the space that they were drawn from, and the head that they are under, if any."""
    resolutions: tuple[Size, ...]
    """Input sizes of that space, ascending."""
    date: str
    """Day of the measurement, such as 2026-01-31."""
    anchor_ms: float
    """Geometric mean latency of the fitted networks: shows the machine's speed on that day."""
    repeatability: float = 0.0
    """Mean of |first / second - 1| over two measurements of each network."""
    unstable: str = ""
    """Why the measurements may be wrong, such as a busy machine."""


@dataclass(frozen=True)
class Calibration:
    """whole ms = offset_ms + factor * sum over a network's corrected layers (see `correction`)."""

    offset_ms: float
    factor: float
    error: TableError
    """Measured on networks that the correction was not fitted on."""
    networks: CalibrationNetworks
    anchors: tuple[Anchor, ...] = ()
    """Some of the fitted networks; none in an imported table, and in one that an earlier version of mnas made."""

    def is_exact(self, limit: float) -> bool:
        """Whether the mean error is at most `limit`, beyond what two measurements of one network differ by anyway.

        That counts up to `limit` itself: where measurements say nothing, no table is exact.
        """
        return self.error.mean_error <= limit + min(limit, self.networks.repeatability)

    def whole_ms(self, layer_sum: float) -> float:
        """Milliseconds of a whole network by the sum over its corrected layers; above zero, however small that is."""
        return max(self.offset_ms + self.factor * layer_sum, LEAST * self.factor * layer_sum)

    def all_whole_ms(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """`whole_ms` of n networks, (n,)."""
        whole: NDArray[np.float64] = np.maximum(self.offset_ms + self.factor * sums, LEAST * self.factor * sums)
        return whole

    def is_of(self, space: SearchSpace, num_classes: Outputs = 1000) -> bool:
        """Whether it was made on networks of `space` and its sizes, with a classifier, or under the same head."""
        here = under(space.name, num_classes), tuple(in_order(space.resolutions))
        return (self.networks.space, self.networks.resolutions) == here

    def __str__(self) -> str:
        error, networks = self.error, self.networks
        unstable = f"; the machine was busy or changed its speed: {networks.unstable}" if networks.unstable else ""
        return (
            f"error on {networks.held_out} networks not used for the fit: mean {error.mean_error:.1%}, largest "
            f"{error.max_error:.1%}, bias {error.bias:+.1%}, Spearman {error.spearman:.3f} (two measurements of a "
            f"network differ by {networks.repeatability:.1%}){unstable}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As a table's file and the commands' JSON have it: one flat mapping, without the anchors."""
        networks = asdict(self.networks) | {"resolutions": tuple(map(written, self.networks.resolutions))}
        fitted, held_out = networks.pop("fitted"), networks.pop("held_out")
        repeatability = networks.pop("repeatability")
        return {
            "offset_ms": self.offset_ms, "factor": self.factor, "networks": fitted, "held_out": held_out,
            **asdict(self.error), "repeatability": repeatability, **networks,
        }  # fmt: skip
