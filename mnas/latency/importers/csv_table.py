"""Latency tables as CSV: one row a layer."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path

from mnas.errors import BadInput, nearest
from mnas.io.strict_yaml import read_text, validate
from mnas.latency.importers.dialects import MAX_BYTES
from mnas.space.layer import Layer

FIELDS = dataclasses.fields(Layer)
COLUMNS = [*(field.name for field in FIELDS), "ms"]
REQUIRED = [*(field.name for field in FIELDS if field.default is dataclasses.MISSING), "ms"]


def read_csv(path: str | Path) -> dict[Layer, float]:
    """All layers of a CSV file whose columns are `Layer`'s fields and ms; an empty cell means `Layer`'s default.

    Cells are divided by commas, semicolons or tabs; with the latter two, numbers may have decimal commas.
    """
    path = Path(path)
    text = read_text(path, MAX_BYTES).removeprefix("\ufeff")
    delimiter = _delimiter(text)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    times: dict[Layer, float] = {}
    try:
        rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
        _check_header(path, rows.fieldnames)
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            layer, time = _row(row, where, decimal_commas=delimiter != ",")
            if layer in times:
                raise BadInput(f"{where}: this layer appears twice: {layer}")
            times[layer] = time
    except csv.Error as error:
        raise BadInput(f"{path}, line {rows.reader.line_num}: not valid CSV: {error}") from None
    return times


def _delimiter(text: str) -> str:
    """What divides the cells: whichever of , ; and tab finds most of the known columns in the first line."""
    first = text.partition("\n")[0]
    return max(",;\t", key=lambda mark: sum(name.strip().strip('"') in COLUMNS for name in first.split(mark)))


def _check_header(path: Path, names: list[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"{path}: unknown column '{name}'{nearest(name, COLUMNS)}")
        if names.count(name) > 1:
            raise BadInput(f"{path}: column '{name}' appears twice")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise BadInput(f"{path}: column '{missing[0]}' is missing; expected a first line such as {','.join(COLUMNS)}")


def _row(
    row: Mapping[str | None, str | list[str] | None], where: str, decimal_commas: bool
) -> tuple[Layer, float]:
    if None in row:
        raise BadInput(f"{where}: more cells than columns")
    cells = {str(name): cell.strip() for name, cell in row.items() if isinstance(cell, str) and cell.strip()}
    text = cells.pop("ms", "nothing")
    number = text.replace(",", ".") if decimal_commas and "." not in text else text
    try:
        time = float(number)
    except ValueError:
        time = math.nan
    if not 0 < time < math.inf:
        hint = "; numbers with decimal commas need cells that semicolons or tabs divide" if "," in text else ""
        raise BadInput(f"{where}: ms: expected a finite number above zero, got {text}{hint}")
    layer = validate(Layer, cells, where)
    for field in FIELDS:
        value, least = getattr(layer, field.name), 0 if field.default == 0 else 1
        if isinstance(value, int) and value < least:  # sides of rectangles are above zero
            raise BadInput(f"{where}: {field.name}: expected at least {least}, got {value}")
    if layer.operator == "mbconv" and not layer.hidden:
        raise BadInput(f"{where}: hidden: an mbconv needs its expanded channels")
    return _canonical(layer), time


def _canonical(layer: Layer) -> Layer:
    """The layer as `Architecture.layers` returns it: fields without effect have their default."""
    if layer.operator == "mbconv" and layer.hidden == layer.in_channels:
        layer = dataclasses.replace(layer, operator="sepconv", hidden=0)
    return layer if layer.se else dataclasses.replace(layer, gate="sigmoid")
