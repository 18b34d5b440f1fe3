"""Figures as the log, the tables and the model card show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {"accuracy": "accuracy", "miou": "mIoU", "map": "mAP"}
"""The figures by which networks of a task are ranked: as files and as people have them."""
BEST = {
    "accuracy": "the most accurate network", "miou": "the network of the highest mIoU",
    "map": "the network of the highest mAP",
}  # fmt: skip
"""What a search looks for."""
OTHERS = {"pixel_accuracy": "pixel accuracy", "map_50": "AP50", "map_75": "AP75"}
"""Those beside them."""
BY_CLASS = {"miou": ("iou", "IoU"), "map": ("ap", "AP")}
"""What metrics.json, and people, call each class's part of a figure."""
ALIKE = 0.01
"""Where the machine's speed differs from that of its table by no larger part, the figure as measured is not shown."""


def figure_of(row: Mapping[str, Any]) -> str:
    """The figure that decided on a network of metrics.json: accuracy, miou or map."""
    return next(figure for figure in NAMES if f"test_{figure}" in row)


def value_on_test(row: Mapping[str, Any]) -> float:
    """That figure (0..1) on the test split."""
    value: float = row[f"test_{figure_of(row)}"]
    return value


def count(number: int, noun: str) -> str:
    """'1 trial', '2 trials'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def decimals(half_width: float) -> int:
    """Of milliseconds and their uncertainty: at least two, and as many as show it, up to four."""
    return 2 if half_width >= 0.01 or half_width <= 0 else 3 if half_width >= 0.001 else 4


def with_spread(ms: float, half_width: float) -> str:
    """'16.20 +- 0.18', or '0.052 +- 0.003' where two decimals would show no uncertainty; '16.20' without any."""
    places = decimals(half_width)
    return f"{ms:.{places}f}" + (f" +- {half_width:.{places}f}" if half_width else "")


def differs(speed_factor: float | None) -> bool:
    """Whether a machine's speed, against that of its table, is worth showing; None is no table."""
    return speed_factor is not None and abs(speed_factor - 1) > ALIKE


def as_measured(measured_ms: float | None, speed_factor: float | None) -> str:
    """', 16.20 as measured', to follow milliseconds at a table's speed; empty where both are about the same."""
    return f", {measured_ms:,.2f} as measured" if measured_ms is not None and differs(speed_factor) else ""
