"""Latency tables: milliseconds of every layer on one device and runtime; a network's latency is their sum."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnas.errors import BadInput
from mnas.latency.runtimes import get_runtime
from mnas.latency.table import file as table_file
from mnas.latency.table.calibration import Calibration
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer, layer_of


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
    at_resolution: dict[int, dict[Layer, float]] = field(default_factory=dict)
    """Milliseconds that hold in networks of one input size alone, in place of the layer's in `entries`."""
    origin: Literal["built", "imported"] = "built"
    """built: measured by mnas on the machine that it ran on. imported: brought from a device that is elsewhere."""
    framed: bool = False
    """Whether each layer was timed in a frame (see frame.py): those that were and others cannot be mixed."""
    clock_mhz: float | None = None
    """The processor's clock while it was measured, where that is known."""
    failed: dict[Layer, str] = field(default_factory=dict)
    """Layers that the runtime could not run, and what it said."""
    calibration: Calibration | None = None
    """From the sum over layers to a whole network, with the error that is left."""
    corrected: dict[Layer, float] = field(default_factory=dict)
    """Milliseconds of the same layers, summed in place of `entries`, by `calibration.correction`; or empty."""

    def predict(self, arch: Architecture, num_classes: int = 1000) -> float:
        """Milliseconds of `arch`: the sum over its layers, calibrated if the table is. BadInput where it lacks one."""
        own, times = self.at_resolution.get(arch.resolution, {}), self.corrected or self.entries
        try:
            total = sum([own[layer] if layer in own else times[layer] for layer in arch.layers(num_classes)])
        except KeyError:
            raise self._lacks([arch], num_classes) from None
        return total if self.calibration is None else self.calibration.offset_ms + self.calibration.factor * total

    def predict_many(self, archs: Sequence[Architecture], num_classes: int = 1000) -> NDArray[np.float64]:
        """`predict` for each of n architectures: (n,) milliseconds. One BadInput for all that is missing."""
        sums = self._sums(archs, num_classes, self.corrected or self.entries)
        return sums if self.calibration is None else self.calibration.offset_ms + self.calibration.factor * sums

    def layer_sums(self, archs: Sequence[Architecture], num_classes: int = 1000) -> NDArray[np.float64]:
        """The sum of its layers' milliseconds, as measured, for each of n architectures: (n,)."""
        return self._sums(archs, num_classes, self.entries)

    def _sums(
        self, archs: Sequence[Architecture], num_classes: int, times: Mapping[Layer, float]
    ) -> NDArray[np.float64]:
        rows = [arch.layer_numbers(num_classes) for arch in archs]
        numbers = np.frombuffer(b"".join(rows), np.uintc)
        counts = np.fromiter(map(len, rows), np.int64, len(rows)) // numbers.itemsize
        used = np.flatnonzero(np.bincount(numbers))
        layers = list(map(layer_of, used.tolist()))
        ms = np.zeros((1 + len(self.at_resolution), used.max(initial=0) + 1))  # first `times`, then each resolution
        try:
            ms[:, used] = [times[layer] for layer in layers]
        except KeyError:
            raise self._lacks(archs, num_classes) from None
        which: Any = 0
        if self.at_resolution:
            for row, own in zip(ms[1:], self.at_resolution.values(), strict=True):
                row[used] = [own.get(layer, general) for layer, general in zip(layers, row[used].tolist(), strict=True)]
            row_of = {resolution: row for row, resolution in enumerate(self.at_resolution, start=1)}
            which = np.repeat([row_of.get(arch.resolution, 0) for arch in archs], counts)
        return np.add.reduceat(ms[which, numbers], np.cumsum(counts) - counts)

    def uncalibrated(self) -> LatencyTable:
        """The same table with its layers as measured, and nothing said of whole networks."""
        return replace(self, calibration=None, corrected={})

    def missing(self, layers: Iterable[Layer]) -> list[Layer]:
        """Those of `layers` that the table lacks, each once, in order."""
        return [layer for layer in dict.fromkeys(layers) if layer not in self.entries]

    def only(self, layers: Container[Layer]) -> LatencyTable:
        """The same table without any other layers."""
        return replace(
            self, entries={layer: ms for layer, ms in self.entries.items() if layer in layers},
            corrected={layer: ms for layer, ms in self.corrected.items() if layer in layers},
            at_resolution={
                resolution: kept for resolution, own in self.at_resolution.items()
                if (kept := {layer: ms for layer, ms in own.items() if layer in layers})
            },
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Writes readable YAML, one row a layer; whole or not at all."""
        header = {name: value for name, value in vars(self).items() if name not in table_file.ROWS}
        table_file.write(path, header, self.entries, self.at_resolution, self.corrected, self.failed)

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """The table in a file that `save` wrote; BadInput names what is wrong with it."""
        return cls(**table_file.read(path))

    def classes(self) -> list[int]:
        """The numbers of classes that it has a classifier for, ascending."""
        classifiers = (one for one in self.entries if one.operator == "linear" and one.activation == "none")
        return sorted({one.out_channels for one in classifiers})

    def _lacks(self, archs: Sequence[Architecture], num_classes: int) -> BadInput:
        summed = replace(self, entries=self.corrected or self.entries)
        missing = summed.missing(layer for arch in archs for layer in arch.layers(num_classes))
        shown = "; ".join(map(str, missing[:3])) + (f"; and {len(missing) - 3:,} more" if len(missing) > 3 else "")
        sizes = ",".join(map(str, sorted({arch.resolution for arch in archs})))
        wanted = f"--space SPACE --classes {num_classes} --resolution {sizes}"
        way = (
            f"Import its source again for that space: mnas latency import SOURCE {wanted} -o NEW.yaml"
            if self.origin == "imported" else
            f"Measure them into the table's file: mnas latency build {wanted} --runtime {self.runtime} "
            f"--threads {self.threads} --batch {self.batch} -o FILE"
        )  # fmt: skip
        return BadInput(
            f"the latency table ({self.runtime} on {self.device}) lacks {len(missing):,} "
            f"layer{'s' if len(missing) > 1 else ''}: {shown}. {way}"
        )


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
