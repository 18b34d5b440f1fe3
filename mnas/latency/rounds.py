"""Timing in rounds. Needs Python alone: a kit takes this file to devices where mnas is not installed."""

from __future__ import annotations

import time
from collections.abc import Callable

Run = Callable[[], object]


def wall_ms(run: Run, repeats: int) -> float:
    """Milliseconds of one run on the wall clock, the mean of `repeats` in a row."""
    start = time.perf_counter_ns()
    for _ in range(repeats):
        run()
    return (time.perf_counter_ns() - start) / repeats / 1e6
