"""Whether a latency table speaks of what is asked, here."""

from __future__ import annotations

from mnas.latency.runtimes import get_runtime
from mnas.latency.table import LatencyTable


def differences(table: LatencyTable, *, runtime: str, threads: int, batch: int) -> list[str]:
    """What the table was measured with and what is asked, where they are not the same: 'threads 4, not 1'."""
    asked = {"runtime": runtime, "threads": threads, "batch": batch, "dtype": "float32"}
    otherwise = []
    if table.runtime == runtime:
        adapter = get_runtime(runtime)
        asked |= {"device": adapter.device_name(), "runtime_version": adapter.version()}
        if table.origin == "built" and table.framed != adapter.framed:
            otherwise = ["layers timed " + ("in frames, not alone" if table.framed else "alone, not in frames as now")]
    return [
        *otherwise,
        *(f"{name.replace('_', ' ')} {getattr(table, name)}, not {value}"
          for name, value in asked.items() if getattr(table, name) != value),
    ]  # fmt: skip
