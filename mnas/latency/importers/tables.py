"""Latency tables from other tools, converted into ours."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from mnas.errors import BadInput, nearest
from mnas.io.size import Size
from mnas.latency.conditions import Conditions
from mnas.latency.importers.csv_table import read_csv
from mnas.latency.importers.dialects import read_tables
from mnas.latency.importers.units import unit_doubt
from mnas.latency.table.provenance import Provenance, today
from mnas.latency.table.table import LatencyTable
from mnas.space.cost import layer_madds
from mnas.space.layer import Layer
from mnas.version import __version__

UNITS = {"ms": 1.0, "us": 1.0e-3, "s": 1.0e3}
"""Milliseconds in each."""


def import_table(
    source: str | Path, layers: Iterable[Layer], conditions: Conditions | None = None, *, device: str,
    runtime_version: str = "unknown", unit: str | None = None,
) -> LatencyTable:  # fmt: skip
    """The table of those `layers` that `source` has (see `read_tables`, or a .csv file); BadInput if it has none.

    `conditions` are those of the source's measurement. Without a `unit` the costliest layers are run here, to see that
    the figures can be milliseconds.
    Where tables of several resolutions disagree on a layer, each value is used for networks of its own resolution, the
    mean for others. A missing classifier is scaled from another number of classes (see `scaled_classifier`).
    """
    source, conditions = Path(source), conditions or Conditions("unknown")
    if unit is not None and unit not in UNITS:
        raise BadInput(f"unknown unit '{unit}'{nearest(unit, UNITS)}")
    wanted = list(dict.fromkeys(layers))
    tables: Mapping[Size, Mapping[Layer, float]]
    tables = {0: read_csv(source)} if source.suffix.lower() == ".csv" else read_tables(source, wanted)
    means = _means(tables.values())
    figures = {layer: means[layer] for layer in wanted if layer in means}
    if not figures:
        raise BadInput(
            f"{source}: has none of the {len(wanted):,} layers of the space, such as {wanted[0]}: state the --space, "
            "and with --resolution the input sizes, that it was made for"
        )
    doubt = unit_doubt(figures, Conditions("torch", batch=conditions.batch)) if unit is None else None
    if doubt:
        raise BadInput(f"{source}: {doubt[1]} State --unit {doubt[0]}, or --unit ms if milliseconds are right")
    ms_at = {
        resolution: {layer: time * UNITS[unit or "ms"] for layer, time in table.items()}
        for resolution, table in tables.items()
    }
    provenance = Provenance(device, runtime_version, today(), __version__, origin="imported")
    table = LatencyTable(conditions, provenance, entries=_means(ms_at.values()), at_resolution=_differing(ms_at))
    return with_classifiers(table, wanted)


def with_classifiers(table: LatencyTable, layers: Iterable[Layer]) -> LatencyTable:
    """`table` with its missing classifiers among `layers`, scaled from the ones it has."""
    entries, corrected = dict(table.entries), dict(table.corrected)
    at_resolution = {resolution: dict(own) for resolution, own in table.at_resolution.items()}
    for layer in table.missing(layers):
        scaled = scaled_classifier(table.entries, layer)
        if scaled is None:
            continue
        entries[layer] = scaled
        scaled_corrected = scaled_classifier(table.corrected, layer)
        if scaled_corrected is not None:
            corrected[layer] = scaled_corrected
        for own in at_resolution.values():
            scaled_own = scaled_classifier(table.entries | own, layer)
            if scaled_own is not None and scaled_own != scaled:
                own[layer] = scaled_own
    return dataclasses.replace(table, entries=entries, corrected=corrected, at_resolution=at_resolution)


def _means(tables: Iterable[Mapping[Layer, float]]) -> dict[Layer, float]:
    """The mean of each layer over the tables that have it."""
    times: dict[Layer, list[float]] = defaultdict(list)
    for table in tables:
        for layer, time in table.items():
            times[layer].append(time)
    return {layer: fmean(values) for layer, values in times.items()}


def _differing(tables: Mapping[Size, Mapping[Layer, float]]) -> dict[Size, dict[Layer, float]]:
    """For each resolution, the values of layers on which the tables disagree."""
    values: dict[Layer, set[float]] = defaultdict(set)
    for table in tables.values():
        for layer, time in table.items():
            values[layer].add(time)
    differing = {
        resolution: {layer: time for layer, time in table.items() if len(values[layer]) > 1}
        for resolution, table in tables.items()
    }
    return {resolution: own for resolution, own in differing.items() if own}


def scaled_classifier(entries: Mapping[Layer, float], layer: Layer) -> float | None:
    """Milliseconds of a missing classifier: those of one on the same features, scaled by multiply-adds.

    The classifier whose number of classes is nearest by ratio is scaled. None for any other layer, and where there is
    no such classifier. The fixed cost of an inference is scaled too, so that a classifier of few classes is predicted
    some microseconds too fast.
    """
    if layer.operator != "linear" or layer.activation != "none":
        return None
    alike = [other for other in entries if dataclasses.replace(other, out_channels=layer.out_channels) == layer]
    if not alike:
        return None
    nearest_size = min(alike, key=lambda other: abs(math.log(other.out_channels / layer.out_channels)))
    return entries[nearest_size] * layer_madds(layer) / layer_madds(nearest_size)
