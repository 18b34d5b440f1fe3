"""This machine's latency tables: kept in the user's cache, missing layers measured when first needed."""

from __future__ import annotations

import logging
import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mnas.config import MAX_TABLE_ERROR
from mnas.errors import BadInput
from mnas.io.files import user_cache
from mnas.io.size import in_order, shown
from mnas.latency.conditions import Conditions
from mnas.latency.machine import await_rest, check_threads, exclusive
from mnas.latency.runtimes import check_runs, get_runtime
from mnas.latency.table.build import build_table
from mnas.latency.table.calibrate import calibrate
from mnas.latency.table.table import LatencyTable, differences
from mnas.monitor.console import progress
from mnas.space.dense import DenseHead, Outputs
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")

LONGEST_NAME = 80
"""Characters of a space's name in that of a file."""
INEXACT = MAX_TABLE_ERROR
"""A table with a larger mean error was measured on a busy machine: it is calibrated again, then measured again."""


def table_for(
    space: SearchSpace, num_classes: Outputs, conditions: Conditions, *, seed: int = 0, path: str | Path | None = None,
    accepted: float = 0.0,
) -> LatencyTable:
    """A calibrated table of the space's layers, from `path` (the user's cache by default).

    Missing layers are measured and added; of a space without some choices, only those that the cached table of the
    whole space lacks. The table is calibrated again where layers were added, or where it was calibrated on another
    space. An inexact table is measured a second time, since a busy machine is the usual reason, and the better one is
    kept; a mean error up to `accepted` is exact enough.
    """
    check_threads(conditions.threads)
    check_runs(conditions.runtime, num_classes)
    with exclusive():  # a second process waits for the whole table, and then finds it in the file
        if path is None:
            path = cache_path(space, conditions, outputs=num_classes)
            table = _cached(path) or _of_whole(space, num_classes, conditions)
        else:
            path = Path(path)
            table = LatencyTable.load(path) if path.exists() else None
            path.parent.mkdir(parents=True, exist_ok=True)  # fails before anything is measured
        differ = [] if table is None else differences(table, conditions)
        if differ:
            raise BadInput(f"{path}: measured on {'; '.join(differ)}; remove it, or name another file for a new table")
        return _updated(table, path, space, num_classes, conditions, random.Random(seed), max(INEXACT, accepted))


def _updated(
    table: LatencyTable | None, path: Path, space: SearchSpace, num_classes: Outputs, conditions: Conditions,
    rng: random.Random, limit: float,
) -> LatencyTable:  # fmt: skip
    """The table with all layers of `space`, calibrated on it, saved in `path`."""
    layers = sorted(space.layers(num_classes), key=str)

    def attempt(start: LatencyTable | None, save: Callable[[LatencyTable], None]) -> LatencyTable:
        whole = _completed(start, layers, conditions, rng, save)
        return whole if whole.missing(layers) else _calibrated(whole, space, num_classes, rng, limit)

    updated = attempt(table, lambda part: part.save(path))
    if not updated.missing(layers) and not (updated.calibration and updated.calibration.is_exact(limit)):
        log.warning(
            "latency table: mean error %.1f%%; was the machine busy? Measuring the table again", 100 * _error(updated)
        )
        updated.save(path)  # kept if the second attempt is interrupted
        updated = min(updated, attempt(_without(updated, layers), lambda part: None), key=_error)
        log.info("latency table: mean error %.1f%% in the better of two attempts", 100 * _error(updated))
    if updated is not table:
        updated.save(path)
    log.info("latency table: %s", path)
    return updated


def _error(table: LatencyTable) -> float:
    """The table's mean error; infinite where it is not calibrated."""
    return math.inf if table.calibration is None else table.calibration.error.mean_error


def _without(table: LatencyTable, layers: Sequence[Layer]) -> LatencyTable | None:
    """The table without `layers`, to be measured again at the same speed; None where nothing remains."""
    others = table.only(set(table.entries) - set(layers))
    return others.uncalibrated() if others.entries else None


def _completed(
    table: LatencyTable | None, layers: Sequence[Layer], conditions: Conditions, rng: random.Random,
    save: Callable[[LatencyTable], None],
) -> LatencyTable:  # fmt: skip
    """The table with every layer that runs; `save` gets what was measured, also after an interruption."""
    missing = list(layers)
    if table is not None:
        missing = [layer for layer in table.missing(layers) if layer not in table.failed]
    if table is None or missing:
        await_rest(conditions.threads)
        log.info("latency table: measuring %d layers with %s", len(missing), conditions)
        with progress("latency table", len(missing)) as shown:
            table = build_table(
                missing, conditions, rng=rng, table=table, save=save,
                progress=lambda count, total: shown.update(count, total, f"{count} layers"),
            )  # fmt: skip
    if table.failed:
        layer, why = next(iter(table.failed.items()))
        log.warning("%s failed on %d layers, such as %s: %s", conditions.runtime, len(table.failed), layer, why)
    return table


def _calibrated(
    table: LatencyTable, space: SearchSpace, num_classes: Outputs, rng: random.Random, limit: float
) -> LatencyTable:
    """The table calibrated on networks of `space`, unless it is already, with a mean error up to `limit`.

    A calibration without anchors, of an earlier version of mnas, is made anew.
    """
    fit = table.calibration
    if fit is not None and fit.is_exact(limit) and fit.is_of(space, num_classes) and fit.anchors:
        return table
    await_rest(table.conditions.threads)
    with progress("calibration", 1.0) as shown:
        table = calibrate(
            table.uncalibrated(), space, num_classes, rng=rng,
            progress=lambda count, total: shown.update(count / total, 1.0, "whole networks"),
        )
    log.info("latency table: %s", table.calibration)
    return table


def cache_path(space: SearchSpace, conditions: Conditions, name: str = "", outputs: Outputs = 1000) -> Path:
    """Where this device's table of a space is kept between runs; of one with another `name`, where that is stated.

    Tables for each head and output stride are apart; one for a head, or for classifiers, has any number of classes.
    """
    adapter = get_runtime(conditions.runtime)
    sizes = "-".join(map(shown, in_order(space.resolutions)))
    where = f"threads {conditions.threads} batch {conditions.batch} {adapter.device_name()}"
    grey = " grey" * (space.channels == 1)
    name = (name or space.name)[:LONGEST_NAME]
    head = f" {outputs.name} stride {outputs.output_stride}" if isinstance(outputs, DenseHead) else ""
    words = f"{name}{head} {sizes} px{grey} {adapter.name} {adapter.version()} {where}{' framed' * adapter.framed}"
    return user_cache("latency") / (re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.") + ".yaml")


def _of_whole(space: SearchSpace, num_classes: Outputs, conditions: Conditions) -> LatencyTable | None:
    """The layers that the cached table of a space has, of the same space without some choices."""
    whole = _cached(cache_path(space, conditions, space.file.name, num_classes)) if space.file.without else None
    if whole is None or differences(whole, conditions):
        return None
    kept = whole.only(space.layers(num_classes)).uncalibrated()
    return kept if kept.entries else None


def _cached(path: Path) -> LatencyTable | None:
    if not path.exists():
        return None
    try:
        return LatencyTable.load(path)
    except BadInput as error:
        log.warning("the cached latency table cannot be used and is measured again: %s", error)
        return None
