"""This machine's latency table: kept in the user's cache, missing layers measured when first needed."""

from __future__ import annotations

import logging
import random
import re
from dataclasses import replace
from pathlib import Path

from mnas.errors import BadInput
from mnas.latency.build import build_table
from mnas.latency.calibrate import calibrate
from mnas.latency.provenance import differences
from mnas.latency.runtimes import get_runtime
from mnas.latency.table import LatencyTable
from mnas.monitor import progress
from mnas.run import user_cache
from mnas.space import SearchSpace

log = logging.getLogger("mnas")


def table_for(
    space: SearchSpace, num_classes: int, *, runtime: str, threads: int, batch: int, seed: int = 0,
    path: Path | None = None,
) -> LatencyTable:
    """A calibrated table of the space's layers, from `path` (the user's cache by default).

    What it lacks is measured and added; where something was added, or another space was calibrated on, it is
    calibrated anew.
    """
    adapter = get_runtime(runtime)
    own, path = path is not None, path or cache_path(space, runtime, threads, batch)
    table = LatencyTable.load(path) if own and path.exists() else _cached(path)
    differ = [] if table is None else differences(table, runtime=runtime, threads=threads, batch=batch)
    if differ:
        raise BadInput(f"{path}: measured on {'; '.join(differ)}; remove it, or name another file for a new table")
    wanted = sorted(space.layers(num_classes), key=str)
    missing = wanted if table is None else [layer for layer in table.missing(wanted) if layer not in table.failed]
    rng = random.Random(seed)
    before = table
    if missing or table is None:
        log.info(
            "latency table: measuring %d layers with %s, %d thread(s), batch %d", len(missing), runtime, threads, batch
        )
        if table is not None:
            table = replace(table, calibration=None)  # also where the build is interrupted before the new one
        with progress("latency table", len(missing)) as shown:
            table = build_table(
                missing, runtime=runtime, threads=threads, batch=batch, rng=rng, table=table,
                save=lambda part: part.save(path),
                progress=lambda done, total: shown.update(done, total, f"{done} layers"),
            )  # fmt: skip
    if table.failed:
        layer, why = next(iter(table.failed.items()))
        log.warning("%s failed on %d layers, such as %s: %s", adapter.name, len(table.failed), layer, why)
    able = not table.missing(wanted)
    fit = table.calibration
    if able and (fit is None or fit.space != space.name):
        with progress("calibration", 1.0) as shown:
            table = calibrate(
                replace(table, calibration=None), space, num_classes, rng=rng,
                progress=lambda done, total: shown.update(done / total, 1.0, "whole networks"),
            )
        log.info("latency table: %s", table.calibration)
    if table is not before:
        table.save(path)
    log.info("latency table: %s", path)
    return table


def cache_path(space: SearchSpace, runtime: str, threads: int, batch: int, folder: Path | None = None) -> Path:
    """Where this device's table of a space and runtime is kept between runs."""
    adapter = get_runtime(runtime)
    sizes = "-".join(map(str, space.resolutions))
    where = f"{runtime} {adapter.version()} threads {threads} batch {batch} {adapter.device_name()}"
    words = f"{space.name} {sizes} px {where}"
    return (folder or user_cache("latency")) / (re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.") + ".yaml")


def _cached(path: Path) -> LatencyTable | None:
    if not path.exists():
        return None
    try:
        return LatencyTable.load(path)
    except BadInput as error:
        log.warning("the cached latency table is not usable and is measured anew: %s", error)
        return None
