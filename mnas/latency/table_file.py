"""The file of a latency table: YAML with a header and one row a layer."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import yaml

from mnas.architecture import Layer
from mnas.config import Count, Positive, Strict, load_yaml, validate
from mnas.errors import BadInput
from mnas.latency.calibrate import Calibration
from mnas.run import write_atomic

MAX_BYTES = 32_000_000

_FIELDS = dataclasses.fields(Layer)
_TYPES = typing.get_type_hints(Layer)


def _column(field: dataclasses.Field[Any]) -> Any:
    """A field of `Layer` as one of a row: numbers are at least 1, or 0 where 0 is the default."""
    kind = _TYPES[field.name]
    if kind is int:
        kind = Annotated[int, pydantic.Field(ge=0 if field.default == 0 else 1)]
    return (kind, ... if field.default is dataclasses.MISSING else field.default)


_columns: dict[str, Any] = {field.name: _column(field) for field in _FIELDS}
_Row: Any = pydantic.create_model("Row", __base__=Strict, **_columns, ms=(Positive, ...))


class _File(Strict):
    device: str
    runtime: str
    runtime_version: str
    threads: Count
    batch: Count
    dtype: Literal["float32"]
    date: str
    mnas_version: str
    origin: Literal["built", "imported"] = "built"
    clock_mhz: Positive | None = None
    anchor_ms: Positive | None = None
    calibration: Calibration | None = None
    layer_count: Annotated[int, pydantic.Field(ge=0)]
    """Tells a file that was cut off from a whole one."""
    layers: tuple[_Row, ...]


def write(path: Path, header: Mapping[str, Any], entries: Mapping[Layer, float]) -> None:
    """Writes a table's file, whole or not at all."""
    header = {name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
              for name, value in header.items() if value is not None}
    top = yaml.safe_dump({**header, "layer_count": len(entries)}, sort_keys=False, allow_unicode=True, width=1000)
    rows = "".join(f"- {_row(layer, ms)}\n" for layer, ms in entries.items())
    text = f"# mnas latency table: milliseconds (ms) of each layer\n{top}layers:{'' if rows else ' []'}\n{rows}"
    write_atomic(path, text)


def read(path: Path) -> tuple[dict[str, Any], dict[Layer, float]]:
    """Header and entries of a table's file; BadInput for anything that `write` would not have written."""
    file = validate(_File, load_yaml(path, MAX_BYTES), str(path))
    if len(file.layers) != file.layer_count:
        raise BadInput(
            f"{path}: layer_count says {file.layer_count:,} layers, but there are {len(file.layers):,}: the file was "
            "cut off or edited; delete it and measure again, or put the count right"
        )
    entries: dict[Layer, float] = {}
    for i, row in enumerate(file.layers):
        values = dict(row)
        ms = values.pop("ms")
        layer = Layer(**values)
        if layer in entries:
            raise BadInput(f"{path}: layers[{i}]: this layer appears twice: {layer}")
        entries[layer] = ms
    header = dict(file)
    del header["layer_count"], header["layers"]
    return header, entries


def _row(layer: Layer, ms: float) -> str:
    stated = {field.name: getattr(layer, field.name) for field in _FIELDS}
    shown = [f"{field.name}: {stated[field.name]}" for field in _FIELDS if stated[field.name] != field.default]
    return "{" + ", ".join([*shown, f"ms: {np.format_float_positional(ms, trim='0')}"]) + "}"
