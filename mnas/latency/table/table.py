"""Latency tables: milliseconds of every layer on one device and runtime; a network's latency is their sum."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.errors import BadInput
from mnas.io.size import Size, in_order, shown
from mnas.latency.conditions import Conditions
from mnas.latency.runtimes import dtype_of, get_runtime
from mnas.latency.table import file as table_file
from mnas.latency.table.calibration import Calibration
from mnas.latency.table.provenance import Provenance
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead, Outputs, head_of, options_of
from mnas.space.layer import HEADS, Layer, layer_of


@dataclass
class LatencyTable:
    """Milliseconds of layers, with the conditions and the provenance of the measurement."""

    conditions: Conditions
    provenance: Provenance
    entries: dict[Layer, float] = field(default_factory=dict)
    """Milliseconds of each layer, as measured, for a whole batch."""
    at_resolution: dict[Size, dict[Layer, float]] = field(default_factory=dict)
    """Milliseconds that replace those in `entries` in networks of this input size."""
    failed: dict[Layer, str] = field(default_factory=dict)
    """Layers that the runtime could not run, with its message."""
    calibration: Calibration | None = None
    """From the sum over layers to a whole network, with the error that is left."""
    corrected: dict[Layer, float] = field(default_factory=dict)
    """Milliseconds of the same layers, corrected by whole networks; summed in place of `entries` unless empty."""

    runtime = property(lambda self: self.conditions.runtime)
    threads = property(lambda self: self.conditions.threads)
    batch = property(lambda self: self.conditions.batch)
    device = property(lambda self: self.provenance.device)
    origin = property(lambda self: self.provenance.origin)

    def predict(self, arch: Architecture, num_classes: Outputs = 1000) -> float:
        """Milliseconds of `arch`: the sum over its layers, calibrated if the table is. BadInput for a missing layer."""
        total = sum(self.layer_times(arch, num_classes))
        return total if self.calibration is None else self.calibration.whole_ms(total)

    def layer_times(self, arch: Architecture, num_classes: Outputs = 1000) -> list[float]:
        """Milliseconds of each of a network's layers, of whose sum `predict` makes a whole network's. Raises BadInput.
        """
        own, times = self.at_resolution.get(arch.resolution, {}), self.corrected or self.entries
        try:
            return [own[layer] if layer in own else times[layer] for layer in arch.layers(num_classes)]
        except KeyError:
            raise self._lacks([arch], num_classes) from None

    def predict_many(self, archs: Sequence[Architecture], num_classes: Outputs = 1000) -> NDArray[np.float64]:
        """`predict` for n architectures: (n,) milliseconds. One BadInput names all missing layers."""
        sums = self._sums(archs, num_classes, self.corrected or self.entries)
        return sums if self.calibration is None else self.calibration.all_whole_ms(sums)

    def layer_sums(self, archs: Sequence[Architecture], num_classes: Outputs = 1000) -> NDArray[np.float64]:
        """The sum over layers as measured, neither corrected nor calibrated, for n architectures: (n,) milliseconds."""
        return self._sums(archs, num_classes, self.entries)

    def _sums(
        self, archs: Sequence[Architecture], num_classes: Outputs, times: Mapping[Layer, float]
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
        """The same table with its layers as measured, without a calibration."""
        return replace(self, calibration=None, corrected={})

    def missing(self, layers: Iterable[Layer]) -> list[Layer]:
        """The layers that the table lacks, each once, in order."""
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

    def save(self, path: str | Path) -> None:
        """Writes readable YAML, one row a layer; whole or not at all."""
        header = table_file.header(self.conditions, self.provenance, self.calibration)
        anchors = () if self.calibration is None else self.calibration.anchors
        table_file.write(Path(path), header, self.entries, self.at_resolution, self.corrected, self.failed, anchors)

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """The table in a file that `save` wrote; BadInput names what is wrong with it."""
        return cls(**table_file.read(Path(path)))

    def classes(self) -> list[int]:
        """The numbers of classes that the table has a classifier for, ascending."""
        classifiers = (layer for layer in self.entries if layer.operator == "linear" and layer.activation == "none")
        return sorted({layer.out_channels for layer in classifiers})

    def heads(self) -> list[DenseHead]:
        """The heads that the table has, by name, output stride and number of classes."""
        heads = {head_of(layer) for layer in self.entries if layer.operator in HEADS}
        return sorted(heads, key=lambda head: (head.name, head.output_stride, head.num_classes))

    def _lacks(self, archs: Sequence[Architecture], num_classes: Outputs) -> BadInput:
        summed = replace(self, entries=self.corrected or self.entries)
        missing = summed.missing(layer for arch in archs for layer in arch.layers(num_classes))
        examples = "; ".join(map(str, missing[:3])) + (f"; and {len(missing) - 3:,} more" if len(missing) > 3 else "")
        sizes = ",".join(map(shown, in_order({arch.resolution for arch in archs})))
        wanted = f"--space SPACE {options_of(num_classes)} --resolution {sizes}"
        way = (
            f"Import its source again for that space: mnas latency import SOURCE {wanted} -o NEW.yaml"
            if self.origin == "imported" else
            f"Measure them into the table's file: mnas latency build {wanted} {self.conditions.options} -o FILE"
        )  # fmt: skip
        return BadInput(
            f"the latency table ({self.runtime} on {self.device}) lacks {len(missing):,} "
            f"layer{'s' if len(missing) > 1 else ''}: {examples}. {way}"
        )


def load_table(path: str | Path) -> LatencyTable:
    """`LatencyTable.load`, cached: a search asks for a table several times, and thousands of rows take a second."""
    path = Path(path)
    return _loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=4)
def _loaded(path: Path, changed_ns: int) -> LatencyTable:
    return LatencyTable.load(path)


def differences(table: LatencyTable, conditions: Conditions) -> list[str]:
    """How the table's measurement differs from one here under `conditions`: 'threads 4, not 1'."""
    differ = []
    here: dict[str, Any] = {**vars(conditions), "dtype": dtype_of(conditions.runtime)}
    if table.runtime == conditions.runtime:
        adapter = get_runtime(conditions.runtime)
        here |= {"device": adapter.device_name(), "runtime_version": adapter.version()}
        if table.origin == "built" and table.provenance.framed != adapter.framed:
            framed = "in frames, not alone" if table.provenance.framed else "alone, not in frames as now"
            differ = [f"layers timed {framed}"]
    there = vars(table.conditions) | vars(table.provenance)
    return differ + [
        f"{name.replace('_', ' ')} {there[name]}, not {value}" for name, value in here.items() if there[name] != value
    ]
