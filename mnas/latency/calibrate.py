"""From the sum over a network's layers to the whole network: a small correction, and the error that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pydantic


@dataclass(frozen=True)
class Calibration:
    """predicted ms = offset_ms + per_layer_ms * layers + factor * sum, fitted on some networks, judged on others."""

    offset_ms: float
    factor: float
    per_layer_ms: float
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
    repeatability: float
    """Mean difference of two measurements of the same networks, as a share."""
    space: str
    """The space whose networks these were."""
    date: str

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid", strict=True)
