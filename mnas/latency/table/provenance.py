"""Where a latency table comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from mnas.latency.runtimes import Runtime, dtype_of
from mnas.latency.timing.device import clock_mhz
from mnas.version import __version__


@dataclass(frozen=True)
class Provenance:
    """On which device, when and by what a table was measured."""

    device: str
    runtime_version: str
    date: str
    """Day of the last measurement, such as 2026-01-31."""
    mnas_version: str
    dtype: str = "float32"
    origin: Literal["built", "imported"] = "built"
    """built: measured by mnas on the machine that it ran on. imported: measured on a device that is elsewhere."""
    framed: bool = False
    """Whether each layer was timed in a frame (see frame.py); such layers cannot be mixed with others."""
    clock_mhz: float | None = None
    """The processor's clock rate during the measurement, where known."""


def provenance_here(adapter: Runtime) -> Provenance:
    """The provenance of a table measured here and now."""
    return Provenance(
        adapter.device_name(), adapter.version(), today(), __version__, dtype_of(adapter.name), framed=adapter.framed,
        clock_mhz=clock_mhz(),
    )  # fmt: skip


def today() -> str:
    """This day, such as 2026-01-31."""
    return date.today().isoformat()
