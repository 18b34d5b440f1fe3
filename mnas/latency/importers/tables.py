"""Latency tables that others measured, brought into ours."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from statistics import fmean

import mnas
from mnas.errors import BadInput, nearest
from mnas.latency.importers.csv_table import read_csv
from mnas.latency.importers.dialects import read_tables
from mnas.latency.importers.units import unit_doubt
from mnas.latency.table.table import LatencyTable
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer

UNITS = {"ms": 1.0, "us": 1.0e-3, "s": 1.0e3}
"""Milliseconds in each."""



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
    tables = {0: read_csv(source)} if source.suffix.lower() == ".csv" else read_tables(source, wanted)
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






# --- CSV --------------------------------------------------------------------------------------------------------








