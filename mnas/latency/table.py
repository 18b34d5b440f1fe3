"""Latency tables: milliseconds of every layer on one device and runtime; a network's latency is their sum."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnas.architecture import Architecture, Layer
from mnas.errors import BadInput
from mnas.latency import table_file
from mnas.latency.calibrate import Calibration
from mnas.latency.device import device_name
from mnas.latency.runtimes import get_runtime


@dataclass
class LatencyTable:
    """What each layer takes, and where and how that was measured."""

    device: str
    runtime: str
    runtime_version: str
    threads: int
    batch: int
    dtype: str
    date: str
    """Day of the last measurement, such as 2026-01-31."""
    mnas_version: str
    entries: dict[Layer, float] = field(default_factory=dict)
    """Milliseconds of each layer for a whole batch."""
    origin: Literal["built", "imported"] = "built"
    """built: measured by mnas on the machine that it ran on. imported: brought from a device that is elsewhere."""
    clock_mhz: float | None = None
    """The processor's clock while it was measured, where that is known."""
    anchor_ms: float | None = None
    """What `measure.ANCHOR` took at the same time, so that later measurements can be compared."""
    calibration: Calibration | None = None
    """From the sum over layers to a whole network, with the error that is left."""

    def predict(self, arch: Architecture, num_classes: int = 1000) -> float:
        """Milliseconds of `arch`: the sum over its layers. BadInput where the table lacks one."""
        try:
            return sum(map(self.entries.__getitem__, arch.layers(num_classes)))
        except KeyError:
            raise self._lacks([arch], num_classes) from None

    def predict_many(self, archs: Sequence[Architecture], num_classes: int = 1000) -> NDArray[np.float64]:
        """`predict` for each of n architectures: (n,) milliseconds. One BadInput for all that is missing."""
        entry = self.entries.__getitem__
        try:
            return np.fromiter((sum(map(entry, arch.layers(num_classes))) for arch in archs), np.float64, len(archs))
        except KeyError:
            raise self._lacks(archs, num_classes) from None

    def missing(self, layers: Iterable[Layer]) -> list[Layer]:
        """Those of `layers` that the table lacks, each once, in order."""
        return [layer for layer in dict.fromkeys(layers) if layer not in self.entries]

    def save(self, path: Path) -> None:
        """Writes readable YAML, one row a layer; whole or not at all."""
        header = {name: value for name, value in vars(self).items() if name != "entries"}
        table_file.write(path, header, self.entries)

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """The table in a file that `save` wrote; BadInput names what is wrong with it."""
        header, entries = table_file.read(path)
        return cls(**header, entries=entries)

    def _lacks(self, archs: Iterable[Architecture], num_classes: int) -> BadInput:
        missing = self.missing(layer for arch in archs for layer in arch.layers(num_classes))
        shown = "; ".join(map(str, missing[:3])) + (f"; and {len(missing) - 3:,} more" if len(missing) > 3 else "")
        return BadInput(
            f"the latency table ({self.runtime} on {self.device}) lacks {len(missing):,} "
            f"layer{'s' if len(missing) > 1 else ''}: {shown}. Measure them with: mnas latency build --space SPACE "
            f"--runtime {self.runtime} --threads {self.threads}"
        )


def cache_path(runtime: str, threads: int, batch: int, device: str | None = None, folder: Path | None = None) -> Path:
    """Where the table of a device (this one unless named) and runtime is kept between runs."""
    if folder is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnas" / "latency"
    version = get_runtime(runtime).version()
    words = f"{device or device_name()} {runtime} {version} threads {threads} batch {batch}"
    return folder / (re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.") + ".yaml")

