"""From the sum over a network's layers to the whole network: a small correction, and the error that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pydantic


@dataclass(frozen=True)
class Calibration:
    """whole ms = offset_ms + factor * sum over its layers' corrected milliseconds (see correction.py).

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
