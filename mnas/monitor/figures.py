"""Figures as the log, the tables and the model card show them."""

from __future__ import annotations

ALIKE = 0.01
"""Where the machine's speed differs from that of its table by no larger part, the figure as measured is not shown."""


def differs(speed_factor: float | None) -> bool:
    """Whether a machine's speed, against that of its table, is worth showing; None is no table."""
    return speed_factor is not None and abs(speed_factor - 1) > ALIKE


def as_measured(measured_ms: float | None, speed_factor: float | None) -> str:
    """', 16.20 as measured', to follow milliseconds at a table's speed; empty where both are about the same."""
    return f", {measured_ms:,.2f} as measured" if measured_ms is not None and differs(speed_factor) else ""
