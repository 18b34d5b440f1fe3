"""Latency tables with made-up figures, and changes to them by the names that a table's file has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from mnas.latency.conditions import Conditions
from mnas.latency.table.calibration import Calibration, CalibrationNetworks, TableError
from mnas.latency.table.provenance import Provenance
from mnas.latency.table.table import LatencyTable
from mnas.space.layer import Layer

FIT = Calibration(
    0.0, 1.0, TableError(0.02, 0.05, 0.0, 0.99),
    CalibrationNetworks(20, 20, "tiny", (32, 48), "2026-01-31", anchor_ms=1.0, repeatability=0.01),
)  # fmt: skip


def made_up(entries: Mapping[Layer, float] | None = None, **changes: Any) -> LatencyTable:
    """A board's table for torch, except for the changes."""
    provenance = Provenance("A board: rev 2, 4 cores", "2.13.0", "2026-01-31", "0.1.0")
    return changed(LatencyTable(Conditions("torch"), provenance, dict(entries or {})), **changes)


def changed(table: LatencyTable, **changes: Any) -> LatencyTable:
    """The table with other conditions (threads=4), provenance (device="a phone") or fields."""
    return replace(
        table, conditions=replace(table.conditions, **_taken(changes, Conditions)),
        provenance=replace(table.provenance, **_taken(changes, Provenance)), **changes,
    )  # fmt: skip


def refitted(calibration: Calibration, **changes: Any) -> Calibration:
    """The calibration with another error (mean_error=0.2), networks (space="v2") or line."""
    return replace(
        calibration, error=replace(calibration.error, **_taken(changes, TableError)),
        networks=replace(calibration.networks, **_taken(changes, CalibrationNetworks)), **changes,
    )  # fmt: skip


def _taken(changes: dict[str, Any], kind: type) -> dict[str, Any]:
    return {field.name: changes.pop(field.name) for field in fields(kind) if field.name in changes}
