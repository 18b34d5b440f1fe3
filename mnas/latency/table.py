"""Latency tables: milliseconds of every layer on one device and runtime; a network's latency is their sum."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnas.architecture import Architecture, Layer, layer_of
from mnas.errors import BadInput
from mnas.latency import table_file
from mnas.latency.calibration import Calibration, spilled_mb


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

    def predict(self, arch: Architecture, num_classes: int = 1000) -> float:
        """Milliseconds of `arch`: the sum over its layers, calibrated if the table is. BadInput where it lacks one."""
        layers = arch.layers(num_classes)
        own = self.at_resolution.get(arch.resolution, {})
        try:
            total = sum([own[layer] if layer in own else self.entries[layer] for layer in layers])
        except KeyError:
            raise self._lacks([arch], num_classes) from None
        if self.calibration is None:
            return total
        spilled = sum([spilled_mb(layer, self.batch) for layer in layers]) if self.calibration.spill_ms else 0.0
        return float(self.calibration.apply(total, spilled))

    def predict_many(self, archs: Sequence[Architecture], num_classes: int = 1000) -> NDArray[np.float64]:
        """`predict` for each of n architectures: (n,) milliseconds. One BadInput for all that is missing."""
        found = _Layers(archs, num_classes)
        sums = self._sums(found)
        if self.calibration is None:
            return sums
        return self.calibration.apply(sums, found.spilled(self.batch) if self.calibration.spill_ms else 0.0)

    def layer_sums(self, archs: Sequence[Architecture], num_classes: int = 1000) -> NDArray[np.float64]:
        """The sum of its layers' milliseconds, for each of n architectures: (n,)."""
        return self._sums(_Layers(archs, num_classes))

    def spills(self, archs: Sequence[Architecture], num_classes: int = 1000) -> NDArray[np.float64]:
        """What its layers spill (see calibration.py), for each of n architectures: (n,) megabytes."""
        return _Layers(archs, num_classes).spilled(self.batch)

    def _sums(self, found: _Layers) -> NDArray[np.float64]:
        used, layers = found.used, found.layers
        ms = np.zeros((1 + len(self.at_resolution), used.max(initial=0) + 1))  # first the entries, then each resolution
        try:
            ms[:, used] = [self.entries[layer] for layer in layers]
        except KeyError:
            raise self._lacks(found.archs, found.num_classes) from None
        which: Any = 0
        if self.at_resolution:
            for row, own in zip(ms[1:], self.at_resolution.values(), strict=True):
                row[used] = [own.get(layer, general) for layer, general in zip(layers, row[used].tolist(), strict=True)]
            row_of = {resolution: row for row, resolution in enumerate(self.at_resolution, start=1)}
            which = np.repeat([row_of.get(arch.resolution, 0) for arch in found.archs], found.counts)
        return found.added(ms[which, found.numbers])

    def missing(self, layers: Iterable[Layer]) -> list[Layer]:
        """Those of `layers` that the table lacks, each once, in order."""
        return [layer for layer in dict.fromkeys(layers) if layer not in self.entries]

    def only(self, layers: Container[Layer]) -> LatencyTable:
        """The same table without any other layers."""
        return replace(
            self, entries={layer: ms for layer, ms in self.entries.items() if layer in layers},
            at_resolution={
                resolution: kept for resolution, own in self.at_resolution.items()
                if (kept := {layer: ms for layer, ms in own.items() if layer in layers})
            },
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Writes readable YAML, one row a layer; whole or not at all."""
        header = {name: value for name, value in vars(self).items() if name not in table_file.ROWS}
        table_file.write(path, header, self.entries, self.at_resolution, self.failed)

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """The table in a file that `save` wrote; BadInput names what is wrong with it."""
        header, entries, at_resolution, failed = table_file.read(path)
        return cls(**header, entries=entries, at_resolution=at_resolution, failed=failed)

    def classes(self) -> list[int]:
        """The numbers of classes that it has a classifier for, ascending."""
        classifiers = (one for one in self.entries if one.operator == "linear" and one.activation == "none")
        return sorted({one.out_channels for one in classifiers})

    def _lacks(self, archs: Sequence[Architecture], num_classes: int) -> BadInput:
        missing = self.missing(layer for arch in archs for layer in arch.layers(num_classes))
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


class _Layers:
    """The numbers of n architectures' layers, all in a row."""

    def __init__(self, archs: Sequence[Architecture], num_classes: int) -> None:
        self.archs, self.num_classes = archs, num_classes
        rows = [arch.layer_numbers(num_classes) for arch in archs]
        self.numbers = np.frombuffer(b"".join(rows), np.uintc)
        self.counts = np.fromiter(map(len, rows), np.int64, len(rows)) // self.numbers.itemsize
        self.used = np.flatnonzero(np.bincount(self.numbers))
        self.layers = list(map(layer_of, self.used.tolist()))

    def added(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over each architecture's layers of a value for each: (n,)."""
        return np.add.reduceat(values, np.cumsum(self.counts) - self.counts)

    def spilled(self, batch: int) -> NDArray[np.float64]:
        mb = np.zeros(self.used.max(initial=0) + 1)
        mb[self.used] = [spilled_mb(layer, batch) for layer in self.layers]
        return self.added(mb[self.numbers])
