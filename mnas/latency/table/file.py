"""The file of a latency table: YAML with a header and one row a layer."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import yaml

from mnas.errors import BadInput
from mnas.io.checksum import sealed, unsealed
from mnas.io.files import write_atomic
from mnas.io.size import Size, SizeField, shown
from mnas.io.strict_yaml import Count, NonNegative, Positive, Strict, parse_yaml, read_text, validate
from mnas.latency.conditions import Conditions
from mnas.latency.table.anchors import Anchor
from mnas.latency.table.calibration import Calibration, CalibrationNetworks, TableError
from mnas.latency.table.provenance import Provenance
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead, Outputs, classes_of
from mnas.space.layer import DenseOperator, Layer

MAX_BYTES = 32_000_000
NonNegativeInt = Annotated[int, pydantic.Field(ge=0)]
Pixels = Annotated[Size, SizeField(1)]

_FIELDS = dataclasses.fields(Layer)
_TYPES = typing.get_type_hints(Layer)


def _column(field: dataclasses.Field[Any]) -> Any:
    """A field of `Layer` as a pydantic field of a row: numbers are at least 1, or 0 where 0 is the default."""
    kind = _TYPES[field.name]
    if kind == Size:
        kind = Pixels
    if kind is int:
        kind = Annotated[int, pydantic.Field(ge=0 if field.default == 0 else 1)]
    return (kind, ... if field.default is dataclasses.MISSING else field.default)


_columns: dict[str, Any] = {field.name: _column(field) for field in _FIELDS}
_Row: Any = pydantic.create_model(
    "Row", __base__=Strict, **_columns, resolution=(Pixels | None, None), ms=(Positive, ...),
    corrected_ms=(Positive | None, None),
)  # fmt: skip
_Failed: Any = pydantic.create_model("Failed", __base__=Strict, **_columns, why=(str, ...))


class _Calibration(Strict):
    offset_ms: pydantic.FiniteFloat
    factor: Positive
    networks: NonNegativeInt
    held_out: NonNegativeInt
    mean_error: NonNegative
    max_error: NonNegative
    bias: pydantic.FiniteFloat
    spearman: pydantic.FiniteFloat
    repeatability: NonNegative
    space: str
    resolutions: tuple[Annotated[Size, SizeField()], ...]
    date: str
    anchor_ms: Positive
    unstable: str = ""

    def calibration(self) -> Calibration:
        return Calibration(
            self.offset_ms, self.factor, TableError(self.mean_error, self.max_error, self.bias, self.spearman),
            CalibrationNetworks(
                self.networks, self.held_out, self.space, self.resolutions, self.date, self.anchor_ms,
                self.repeatability, self.unstable,
            ),
        )  # fmt: skip


class _Anchor(Strict):
    ms: Positive
    num_classes: Count
    head: DenseOperator | None = None
    output_stride: NonNegativeInt = 0
    architecture: dict[str, Any]

    def outputs(self) -> Outputs:
        return DenseHead(self.head, self.num_classes, self.output_stride) if self.head else self.num_classes


class _File(Strict):
    device: str
    runtime: str
    runtime_version: str
    threads: Count
    batch: Count
    dtype: Literal["float32", "int8"]
    date: str
    mnas_version: str
    origin: Literal["built", "imported"] = "built"
    framed: bool = False
    clock_mhz: Positive | None = None
    calibration: _Calibration | None = None
    anchors: tuple[_Anchor, ...] = ()
    layer_count: NonNegativeInt
    """Shows whether a file is complete."""
    failed: tuple[_Failed, ...] = ()
    layers: tuple[_Row, ...]


def header(conditions: Conditions, provenance: Provenance, calibration: Calibration | None) -> dict[str, Any]:
    """What stands above the rows of a table's file."""
    values = vars(conditions) | vars(provenance)
    if calibration is not None:
        values["calibration"] = calibration.to_dict()
    names = [name for name in _File.model_fields if values.get(name) is not None]
    return {name: values[name] for name in names}


def write(
    path: Path, header: Mapping[str, Any], entries: Mapping[Layer, float],
    at_resolution: Mapping[Size, Mapping[Layer, float]], corrected: Mapping[Layer, float], failed: Mapping[Layer, str],
    anchors: Sequence[Anchor] = (),
) -> None:  # fmt: skip
    """Writes a table's file, whole or not at all."""
    rows = [
        _row(layer, ms=_positional(ms), **{"corrected_ms": _positional(corrected[layer])} if layer in corrected else {})
        for layer, ms in entries.items()
    ]
    rows += [
        _row(layer, resolution=shown(resolution), ms=_positional(ms))
        for resolution, own in at_resolution.items() for layer, ms in own.items()
    ]  # fmt: skip
    lost = [_row(layer, why=_quoted(why)) for layer, why in failed.items()]
    head = {**header, "layer_count": len(rows)}
    top = yaml.dump(head, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    text = f"# mnas latency table: milliseconds (ms) of each layer\n{top}"
    text += "".join(["anchors:\n", *map(_anchor_row, anchors)] * bool(anchors))
    text += "".join(["failed:\n", *lost] * bool(lost) + ["layers:\n" if rows else "layers: []\n", *rows])
    write_atomic(path, sealed(text.encode()))


def read(path: Path) -> dict[str, Any]:
    """The fields of the table in a file; BadInput for what `write` would not have written."""
    text = read_text(path, MAX_BYTES)
    file = validate(_File, parse_yaml(text, str(path), MAX_BYTES), str(path))
    if len(file.layers) != file.layer_count:
        raise BadInput(
            f"{path}: layer_count is {file.layer_count:,}, but there are {len(file.layers):,} layers: the file was "
            "cut off or edited; delete it and measure again, or correct the count"
        )
    times: dict[Size | None, dict[Layer, float]] = {None: {}}
    corrected: dict[Layer, float] = {}
    for i, row in enumerate(file.layers):
        layer, values = _layer(row)
        own = times.setdefault(values["resolution"], {})
        if layer in own:
            at = f" for resolution {shown(values['resolution'])}" if values["resolution"] else ""
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
                f"{path}: layers: one has a row for resolution {shown(resolution)} alone, expected also a row without "
                f"resolution, for networks of other sizes: {lone[0]}"
            )
    if corrected:
        _check_corrected(corrected, entries, file.calibration is not None, bool(at_resolution), path)
    failed = {}
    for i, row in enumerate(file.failed):
        layer, values = _layer(row)
        if layer in failed:
            raise BadInput(f"{path}: failed[{i}]: this layer appears twice: {layer}")
        failed[layer] = values["why"]
    stated = dict(file)
    calibration = None if file.calibration is None else file.calibration.calibration()
    if file.anchors:
        anchors = _anchors(file.anchors, path)
        if calibration is None:
            raise BadInput(f"{path}: anchors: there is no calibration that they belong to: delete them")
        calibration = dataclasses.replace(calibration, anchors=anchors)
    _check_sum(text, path)
    return {
        "conditions": Conditions(**{field.name: stated[field.name] for field in dataclasses.fields(Conditions)}),
        "provenance": Provenance(**{field.name: stated[field.name] for field in dataclasses.fields(Provenance)}),
        "calibration": calibration,
        "entries": entries, "at_resolution": at_resolution, "corrected": corrected, "failed": failed,
    }  # fmt: skip


def _check_sum(text: str, path: Path) -> None:
    """BadInput where the text has another checksum than its last line; last, as other errors say more."""
    try:
        unsealed(text.encode())
    except ValueError as error:
        raise BadInput(
            f"{path}: damaged or edited ({error}): if it was edited by hand, delete that line; else restore the file, "
            "or delete it and measure again"
        ) from None


def _check_corrected(
    corrected: Mapping[Layer, float], entries: Mapping[Layer, float], calibrated: bool, of_resolutions: bool, path: Path
) -> None:
    """BadInput where the corrected milliseconds cannot come from a calibration."""
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
            "mnas latency build -o FILE calibrates it again"
        )


def _anchors(rows: Sequence[_Anchor], path: Path) -> tuple[Anchor, ...]:
    """The anchors in a file; BadInput for what is no architecture."""
    return tuple(
        Anchor(Architecture.from_dict(row.architecture, f"{path}: anchors[{i}].architecture"), row.outputs(), row.ms)
        for i, row in enumerate(rows)
    )


def _anchor_row(anchor: Anchor) -> str:
    """One line of YAML."""
    outputs = anchor.num_classes
    head = {"head": outputs.name, "output_stride": outputs.output_stride} if isinstance(outputs, DenseHead) else {}
    row = {
        "ms": anchor.ms, "num_classes": classes_of(outputs), **head,
        "architecture": yaml.safe_load(anchor.architecture.to_yaml()),
    }  # fmt: skip
    return f"- {yaml.dump(row, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=math.inf)}"


def _layer(row: Any) -> tuple[Layer, dict[str, Any]]:
    """The layer of a row, and the row's other values."""
    values = dict(row)
    return Layer(**{field.name: values.pop(field.name) for field in _FIELDS}), values


def _row(layer: Layer, **values: str) -> str:
    """One line of YAML: the layer's fields that are not the default, then `values`."""
    fields = {field.name: getattr(layer, field.name) for field in _FIELDS}
    stated = {field.name: fields[field.name] for field in _FIELDS if fields[field.name] != field.default}
    stated |= {"size": shown(layer.size), **values}
    return "- {" + ", ".join(f"{name}: {value}" for name, value in stated.items()) + "}\n"


def _positional(ms: float) -> str:
    """A number without an exponent, which YAML would read as text."""
    return np.format_float_positional(ms, trim="0")


class _Dumper(yaml.SafeDumper):
    """Also quotes texts that PyYAML does not quote and that the strict reader takes for a number or a truth value."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if re.fullmatch(r"[yYnN]|[-+]?[\d.]+[eE][-+]?\d+", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _quoted(text: str) -> str:
    """A text in double quotes on one line, with everything but ASCII escaped."""
    return yaml.safe_dump(text, default_style='"', width=math.inf).rstrip()
