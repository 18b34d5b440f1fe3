"""Sources of an architecture's accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mnas.architecture import Architecture

Report = Callable[[int, float], None]
"""Told (step, accuracy so far) during an estimate; it raises Pruned to end a hopeless one."""


class Pruned(Exception):
    """The estimate was ended early, because the candidate is hopeless."""


class Estimator(Protocol):
    """Gives an architecture's accuracy, 0..1, on the search-validation split."""

    def __call__(self, arch: Architecture, report: Report) -> float: ...
