"""The file of a latency table: YAML with a header and one row a layer."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import yaml

from mnas.errors import BadInput
from mnas.io.files import write_atomic
from mnas.io.strict_yaml import Count, Positive, Strict, load_yaml, validate
from mnas.latency.table.calibration import Calibration
from mnas.space.layer import Layer

MAX_BYTES = 32_000_000

ROWS = ("entries", "at_resolution", "corrected", "failed")
"""The fields of a table that are rows of its file; the others are its header."""

_FIELDS = dataclasses.fields(Layer)
_TYPES = typing.get_type_hints(Layer)


def _column(field: dataclasses.Field[Any]) -> Any:
    """A field of `Layer` as one of a row: numbers are at least 1, or 0 where 0 is the default."""
    kind = _TYPES[field.name]
    if kind is int:
        kind = Annotated[int, pydantic.Field(ge=0 if field.default == 0 else 1)]
    return (kind, ... if field.default is dataclasses.MISSING else field.default)


_columns: dict[str, Any] = {field.name: _column(field) for field in _FIELDS}
_Row: Any = pydantic.create_model(
    "Row", __base__=Strict, **_columns, resolution=(Count | None, None), ms=(Positive, ...),
    corrected_ms=(Positive | None, None),
)  # fmt: skip
_Failed: Any = pydantic.create_model("Failed", __base__=Strict, **_columns, why=(str, ...))


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
    framed: bool = False
    clock_mhz: Positive | None = None
    calibration: Calibration | None = None
    layer_count: Annotated[int, pydantic.Field(ge=0)]
    """Tells a file that was cut off from a whole one."""
    failed: tuple[_Failed, ...] = ()
    layers: tuple[_Row, ...]


def write(
    path: Path, header: Mapping[str, Any], entries: Mapping[Layer, float],
    at_resolution: Mapping[int, Mapping[Layer, float]], corrected: Mapping[Layer, float], failed: Mapping[Layer, str],
) -> None:  # fmt: skip
    """Writes a table's file, whole or not at all."""
    header = {name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
              for name, value in header.items() if value is not None}  # fmt: skip
    rows = [
        _row(layer, ms=_positional(ms), **{"corrected_ms": _positional(corrected[layer])} if layer in corrected else {})
        for layer, ms in entries.items()
    ]
    rows += [
        _row(layer, resolution=str(resolution), ms=_positional(ms))
        for resolution, own in at_resolution.items() for layer, ms in own.items()
    ]  # fmt: skip
    lost = [_row(layer, why=_quoted(why)) for layer, why in failed.items()]
    header["layer_count"] = len(rows)
    top = yaml.dump(header, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    text = f"# mnas latency table: milliseconds (ms) of each layer\n{top}"
    text += "".join(["failed:\n", *lost] * bool(lost) + ["layers:\n" if rows else "layers: []\n", *rows])
    write_atomic(path, text)


def read(path: Path) -> dict[str, Any]:
    """The fields of the table; BadInput for what `write` would not have written."""
    file = validate(_File, load_yaml(path, MAX_BYTES), str(path))
    if len(file.layers) != file.layer_count:
        raise BadInput(
            f"{path}: layer_count says {file.layer_count:,} layers, but there are {len(file.layers):,}: the file was "
            "cut off or edited; delete it and measure again, or put the count right"
        )
    if file.calibration is not None:
        _check(file.calibration, str(path))
    times: dict[int | None, dict[Layer, float]] = {None: {}}
    corrected: dict[Layer, float] = {}
    for i, row in enumerate(file.layers):
        layer, values = _layer(row)
        own = times.setdefault(values["resolution"], {})
        if layer in own:
            at = f" for resolution {values['resolution']}" if values["resolution"] else ""
            raise BadInput(f"{path}: layers[{i}]: this layer appears twice{at}: {layer}")
        own[layer] = values["ms"]
        if values["corrected_ms"] is not None:
            corrected[layer] = values["corrected_ms"]
    entries = times.pop(None)
    at_resolution = {resolution: own for resolution, own in times.items() if resolution is not None}
    for resolution, own in at_resolution.items():
        lone = [layer for layer in own if layer not in entries]
        if lone:
            raise BadInput(
                f"{path}: layers: one for resolution {resolution} alone, expected also a row without resolution, for "
                f"networks of other sizes: {lone[0]}"
            )
    if corrected:
        _check_corrected(corrected, entries, file.calibration is not None, bool(at_resolution), path)
    failed = {}
    for i, row in enumerate(file.failed):
        layer, values = _layer(row)
        if layer in failed:
            raise BadInput(f"{path}: failed[{i}]: this layer appears twice: {layer}")
        failed[layer] = values["why"]
    header = {name: value for name, value in file if name not in ("layer_count", "layers")}
    rows = {"entries": entries, "at_resolution": at_resolution, "corrected": corrected, "failed": failed}
    return header | rows


def _check(calibration: Calibration, source: str) -> None:
    """What the types of its fields leave open."""
    for name in ("factor", "anchor_ms"):
        if getattr(calibration, name) <= 0:
            raise BadInput(f"{source}: calibration.{name}: should be greater than 0, got {getattr(calibration, name)}")
    for name in ("networks", "held_out", "mean_error", "max_error", "repeatability"):
        if getattr(calibration, name) < 0:
            raise BadInput(f"{source}: calibration.{name}: should be 0 or more, got {getattr(calibration, name)}")


def _check_corrected(
    corrected: Mapping[Layer, float], entries: Mapping[Layer, float], calibrated: bool, of_resolutions: bool, path: Path
) -> None:
    """BadInput where the corrected milliseconds cannot be those that a calibration found."""
    lone = [layer for layer in entries if layer not in corrected]
    far = [layer for layer, ms in corrected.items() if not ms / 2 <= entries[layer] <= 2 * ms]
    wrong = (
        "there is no calibration" if not calibrated
        else "there are rows of one resolution alone" if of_resolutions
        else f"{len(lone)} of {len(entries)} layers have none, such as {lone[0]}" if lone
        else f"more than twice or less than half the ms of {far[0]}" if far
        else ""
    )  # fmt: skip
    if wrong:
        raise BadInput(
            f"{path}: layers: corrected_ms: {wrong}: delete every corrected_ms and the calibration, and "
            "mnas latency build -o FILE calibrates it anew"
        )


def _layer(row: Any) -> tuple[Layer, dict[str, Any]]:
    """The layer of a row, and what the row states of it."""
    values = dict(row)
    return Layer(**{field.name: values.pop(field.name) for field in _FIELDS}), values


def _row(layer: Layer, **values: str) -> str:
    """One line of YAML: the layer's fields, and what is stated of it."""
    stated = {field.name: getattr(layer, field.name) for field in _FIELDS}
    shown = {field.name: stated[field.name] for field in _FIELDS if stated[field.name] != field.default}
    return "- {" + ", ".join(f"{name}: {value}" for name, value in (shown | values).items()) + "}\n"


def _positional(ms: float) -> str:
    """As YAML reads a number: without an exponent."""
    return np.format_float_positional(ms, trim="0")


class _Dumper(yaml.SafeDumper):
    """Also quotes the texts that PyYAML would not, and that the strict reader takes for a number or a truth value."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if re.fullmatch(r"[yYnN]|[-+]?[\d.]+[eE][-+]?\d+", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _quoted(text: str) -> str:
    """As YAML reads a text: on one line, what is not ASCII escaped."""
    return yaml.safe_dump(text, default_style='"', width=math.inf).rstrip()
