"""Whole networks as an idle machine measured them, kept between searches for one that meets the machine at work."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.io.files import user_cache
from mnas.io.jsonl import append_record, read_records
from mnas.latency.table.anchors import Anchor
from mnas.latency.timing.rounds import Measurement
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs

log = logging.getLogger("mnas")

AT_REST = 0.05
"""Half the width of a measurement's interval, as a part of it, up to which it was taken at rest."""


@dataclass(frozen=True)
class Remembered:
    """The networks that were measured at the speed of one table."""

    path: Path
    """JSON Lines, for all tables."""
    table: str
    """The table's anchors, as a hash: measured anew, it has others."""

    def of(self, archs: Sequence[Architecture], num_classes: Outputs) -> list[tuple[float, float] | None]:
        """Each network's milliseconds and half the width of their interval, by its last measurement."""
        wanted, known = {"table": self.table, "classes": _recorded(num_classes)}, dict[str, tuple[float, float]]()
        for record in self._records():
            if wanted.items() <= record.items():
                known[record["network"]] = record["ms"], record["half_width_ms"]
        return [known.get(arch.id) for arch in archs]

    def keep(self, arch: Architecture, num_classes: Outputs, measurement: Measurement) -> None:
        """Remember a measurement at the table's speed, if it was taken at rest and there is room for it."""
        if measurement.spread_ms > AT_REST * measurement.median_ms:
            return
        with contextlib.suppress(OSError):  # such as a cache that is read-only: nothing is lost but this memory
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_record(self.path, {
                "table": self.table, "network": arch.id, "classes": _recorded(num_classes), "ms": measurement.median_ms,
                "half_width_ms": measurement.spread_ms,
            })  # fmt: skip

    def _records(self) -> list[dict[str, Any]]:
        try:
            return read_records(self.path)
        except (BadInput, OSError) as error:
            log.warning("what was measured in earlier searches cannot be read, and is left out: %s", error)
            return []


def _recorded(outputs: Outputs) -> int | str:
    return outputs if isinstance(outputs, int) else f"{outputs.num_classes}, {outputs}"


def remembered_beside(anchors: Sequence[Anchor]) -> Remembered | None:
    """What this machine remembers at the speed of a table with these anchors; None for a table without any."""
    if not anchors:
        return None
    text = repr([(anchor.architecture.id, anchor.num_classes, anchor.ms) for anchor in anchors])
    return Remembered(user_cache("latency") / "networks.jsonl", hashlib.sha256(text.encode()).hexdigest()[:16])
