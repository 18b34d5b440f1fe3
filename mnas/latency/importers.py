"""Latency tables that others measured, brought into ours."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from statistics import fmean

import torch

import mnas
from mnas.architecture import Layer
from mnas.cost import layer_madds
from mnas.errors import BadInput, nearest
from mnas.latency.dialects import MAX_BYTES, read_tables
from mnas.latency.frame import frame, input_shape, timed_module
from mnas.latency.runtimes import get_runtime
from mnas.latency.sections import LEAST_MS
from mnas.latency.table import LatencyTable
from mnas.strict_yaml import read_text, validate

UNITS = {"ms": 1.0, "us": 1.0e-3, "s": 1.0e3}
"""Milliseconds in each."""
FIELDS = dataclasses.fields(Layer)
COLUMNS = [*(field.name for field in FIELDS), "ms"]
REQUIRED = [*(field.name for field in FIELDS if field.default is dataclasses.MISSING), "ms"]

COMPARED = 12
IMPLAUSIBLE = 32
"""A device that seems so many times faster or slower than this machine makes one doubt the unit."""


def import_table(
    source: Path, layers: Iterable[Layer], *, device: str, runtime: str = "unknown", runtime_version: str = "unknown",
    threads: int = 1, batch: int = 1, unit: str | None = None,
) -> LatencyTable:  # fmt: skip
    """What `source` (see `read_tables`, or a .csv file) has of `layers`, as a table; BadInput where that is nothing.

    Without a `unit` the costliest layers are run here, to see that the figures can be milliseconds.
    Where tables of several resolutions disagree on a layer, each holds for networks of its own resolution, and the mean
    for others. A classifier of another number of classes is scaled (see `scaled_classifier`).
    """
    if unit is not None and unit not in UNITS:
        raise BadInput(f"unknown unit '{unit}'{nearest(unit, UNITS)}")
    wanted = list(dict.fromkeys(layers))
    tables = {0: _read_csv(source)} if source.suffix.lower() == ".csv" else read_tables(source, wanted)
    stated = _means(tables.values())
    found = {layer: stated[layer] for layer in wanted if layer in stated}
    if not found:
        raise BadInput(
            f"{source}: has none of the {len(wanted):,} layers asked for, such as {wanted[0]}: state the --space, and "
            "with --resolution the input sizes, that it was made for"
        )
    doubt = unit_doubt(found, batch) if unit is None else None
    if doubt:
        raise BadInput(f"{source}: {doubt[1]} State --unit {doubt[0]}, or --unit ms if milliseconds are right")
    ms_at = {
        resolution: {layer: time * UNITS[unit or "ms"] for layer, time in table.items()}
        for resolution, table in tables.items()
    }
    table = LatencyTable(
        device, runtime, runtime_version, threads, batch, "float32", date.today().isoformat(), mnas.__version__,
        entries=_means(ms_at.values()), at_resolution=_differing(ms_at), origin="imported",
    )  # fmt: skip
    return with_classifiers(table, wanted)


def with_classifiers(table: LatencyTable, layers: Iterable[Layer]) -> LatencyTable:
    """`table` with the classifiers among `layers` that it lacks, scaled from those that it has."""
    entries, corrected = dict(table.entries), dict(table.corrected)
    at_resolution = {resolution: dict(own) for resolution, own in table.at_resolution.items()}
    for layer in table.missing(layers):
        scaled = scaled_classifier(table.entries, layer)
        if scaled is None:
            continue
        entries[layer] = scaled
        there = scaled_classifier(table.corrected, layer)
        if there is not None:
            corrected[layer] = there
        for own in at_resolution.values():
            there = scaled_classifier(table.entries | own, layer)
            if there is not None and there != scaled:
                own[layer] = there
    return dataclasses.replace(table, entries=entries, corrected=corrected, at_resolution=at_resolution)


def _means(tables: Iterable[Mapping[Layer, float]]) -> dict[Layer, float]:
    """Each layer's mean over the tables that have it."""
    times: dict[Layer, list[float]] = defaultdict(list)
    for table in tables:
        for layer, time in table.items():
            times[layer].append(time)
    return {layer: fmean(some) for layer, some in times.items()}


def _differing(tables: Mapping[int, Mapping[Layer, float]]) -> dict[int, dict[Layer, float]]:
    """What each resolution's table has of the layers on which the tables disagree."""
    stated: dict[Layer, set[float]] = defaultdict(set)
    for table in tables.values():
        for layer, time in table.items():
            stated[layer].add(time)
    differing = {
        resolution: {layer: time for layer, time in table.items() if len(stated[layer]) > 1}
        for resolution, table in tables.items()
    }
    return {resolution: own for resolution, own in differing.items() if own}


def scaled_classifier(entries: Mapping[Layer, float], layer: Layer) -> float | None:
    """Milliseconds of a classifier that `entries` lacks: those of one on the same features, by multiply-adds.

    None for any other layer, and where there is none to scale. The number of classes nearest by ratio is taken.
    A run's fixed cost is scaled too, so that a classifier of few classes comes out some microseconds too fast.
    """
    if layer.operator != "linear" or layer.activation != "none":
        return None
    alike = [one for one in entries if dataclasses.replace(one, out_channels=layer.out_channels) == layer]
    if not alike:
        return None
    near = min(alike, key=lambda one: abs(math.log(one.out_channels / layer.out_channels)))
    return entries[near] * layer_madds(layer) / layer_madds(near)


def unit_doubt(
    stated: Mapping[Layer, float], batch: int, runtime: str = "torch", threads: int = 1
) -> tuple[str, str] | None:
    """The unit that figures seem to have which can hardly be milliseconds, and why, by what the costliest layers take.

    None where they can.
    """
    costly = sorted(stated, key=layer_madds)[-COMPARED:]
    there_ms = sum(stated[layer] for layer in costly)
    here_ms = sum(_time_here_ms(layer, batch, runtime, threads) for layer in costly)
    if there_ms > IMPLAUSIBLE * here_ms:
        unit, name, compared = "us", "microseconds", f"{there_ms / here_ms:,.0f} times"
    elif there_ms * IMPLAUSIBLE < here_ms:
        unit, name, compared = "s", "seconds", f"1/{here_ms / there_ms:,.0f} of"
    else:
        return None
    return unit, (
        f"as milliseconds its {len(costly)} costliest layers take {compared} what this machine takes "
        f"({here_ms:.3g} ms): is the table in {name}?"
    )


def _time_here_ms(layer: Layer, batch: int, runtime: str, threads: int) -> float:
    """About what a runtime of this machine takes for a layer."""
    adapter = get_runtime(runtime)

    def least_ms(one: Layer) -> float:
        images = torch.zeros(input_shape(one, batch, in_frame=adapter.framed))
        run = adapter.prepare(timed_module(one, in_frame=adapter.framed), images, threads)
        return min(adapter.timed_ms(run, 1) for _ in range(4))

    with adapter.threads(threads), torch.random.fork_rng(devices=[]):
        return max(least_ms(layer) - (least_ms(frame(layer)) if adapter.framed else 0.0), LEAST_MS)


# --- CSV --------------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> dict[Layer, float]:
    """All layers of a CSV file whose columns are `Layer`'s fields and ms; what is left out has `Layer`'s default."""
    rows = csv.DictReader(io.StringIO(read_text(path, MAX_BYTES).removeprefix("\ufeff"), newline=""), strict=True)
    times: dict[Layer, float] = {}
    try:
        rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
        _check_header(path, rows.fieldnames)
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            layer, time = _row(row, where)
            if layer in times:
                raise BadInput(f"{where}: this layer appears twice: {layer}")
            times[layer] = time
    except csv.Error as error:
        raise BadInput(f"{path}, line {rows.reader.line_num}: not valid CSV: {error}") from None
    return times


def _check_header(path: Path, names: list[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"{path}: unknown column '{name}'{nearest(name, COLUMNS)}")
        if names.count(name) > 1:
            raise BadInput(f"{path}: column '{name}' appears twice")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise BadInput(f"{path}: column '{missing[0]}' is missing; expected a first line such as {','.join(COLUMNS)}")


def _row(row: Mapping[str | None, str | list[str] | None], where: str) -> tuple[Layer, float]:
    if None in row:
        raise BadInput(f"{where}: more cells than columns")
    stated = {str(name): cell.strip() for name, cell in row.items() if isinstance(cell, str) and cell.strip()}
    text = stated.pop("ms", "nothing")
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not 0 < time < math.inf:
        raise BadInput(f"{where}: ms: expected a finite number above zero, got {text}")
    layer = validate(Layer, stated, where)
    for field in FIELDS:
        value, least = getattr(layer, field.name), 0 if field.default == 0 else 1
        if isinstance(value, int) and value < least:
            raise BadInput(f"{where}: {field.name}: expected at least {least}, got {value}")
    if layer.operator == "mbconv" and not layer.hidden:
        raise BadInput(f"{where}: hidden: an mbconv needs its expanded channels")
    return _canonical(layer), time


def _canonical(layer: Layer) -> Layer:
    """The layer as `Architecture.layers` gives it: what has no effect is not stated."""
    if layer.operator == "mbconv" and layer.hidden == layer.in_channels:
        layer = dataclasses.replace(layer, operator="sepconv", hidden=0)
    return layer if layer.se else dataclasses.replace(layer, gate="sigmoid")
