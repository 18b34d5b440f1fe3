"""From the sum over a network's layers to the whole network: a small correction, and the error that it leaves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic

from mnas.architecture import Layer

SPILL_MB = 1.0
"""No larger feature map is held by one core's own cache."""


@functools.cache
def spilled_mb(layer: Layer, batch: int = 1) -> float:
    """Megabytes (1e6 bytes) by which what a depthwise convolution reads, in float32, is more than SPILL_MB.

    That is the expanded feature map of an mbconv, or the input of a sepconv.
    """
    channels = layer.in_channels if layer.operator == "sepconv" else layer.hidden
    return max(0.0, 4e-6 * batch * channels * layer.size**2 - SPILL_MB)


@dataclass(frozen=True)
class Calibration:
    """whole ms = offset_ms + factor * sum over layers + spill_ms * megabytes spilled by them.

    Fitted on some networks of a space, judged on others. In a network a feature map that fits into no core's cache
    takes longer than in a layer timed alone, where nothing else wants the larger cache.
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
    spill_ms: float = 0.0
    """Milliseconds of a megabyte (see `spilled_mb`), beyond what the layers take."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    def apply(self, sums: Any, spilled: Any) -> Any:
        """Milliseconds of whole networks from what their layers take and spill in all: numbers or arrays."""
        return self.offset_ms + self.factor * sums + self.spill_ms * spilled

    def __str__(self) -> str:
        return (
            f"error on {self.held_out} networks not used for the fit: mean {self.mean_error:.1%}, largest "
            f"{self.max_error:.1%}, bias {self.bias:+.1%}, Spearman {self.spearman:.3f} (two measurements of one "
            f"network differ by {self.repeatability:.1%})"
        )
