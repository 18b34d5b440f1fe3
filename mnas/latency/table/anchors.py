"""Networks of a table's fit that are kept with it: measured again, they show the machine's speed then and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnas.latency.timing.rounds import Measurement
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs

KEPT = 8
"""Beside a process that slowed all by 1.5 to 1.7, factors from 4, 6, 8 and 12 networks differed by 1% (eager torch)."""


@dataclass(frozen=True)
class Anchor:
    """A whole network and its latency when the table was calibrated."""

    architecture: Architecture
    num_classes: Outputs
    ms: float
    """Milliseconds of a whole batch."""


def anchors_of(
    archs: Sequence[Architecture], measurements: Sequence[Measurement], num_classes: Outputs
) -> list[Anchor]:
    """At most eight of the measured networks, each once, evenly spaced from the fastest to the slowest."""
    ms = {arch: round(timed.median_ms, 6) for arch, timed in zip(archs, measurements, strict=True)}
    ranked = sorted(ms, key=lambda arch: ms[arch])
    count = min(KEPT, len(ranked))
    chosen = [ranked[round(i * (len(ranked) - 1) / max(1, count - 1))] for i in range(count)]
    return [Anchor(arch, num_classes, ms[arch]) for arch in chosen]
