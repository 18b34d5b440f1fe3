"""This machine's latency table: kept in the user's cache, missing layers measured when first needed."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from pathlib import Path

from mnas.architecture import Layer
from mnas.errors import BadInput
from mnas.latency.build import build_table
from mnas.latency.runtimes import get_runtime
from mnas.latency.table import LatencyTable, cache_path
from mnas.monitor import progress

log = logging.getLogger("mnas")


def table_for(
    layers: Iterable[Layer], *, runtime: str, threads: int, batch: int, seed: int = 0, path: Path | None = None
) -> LatencyTable:
    """A table with all of `layers`, from `path` (the user's cache by default); what it lacks is measured and added."""
    get_runtime(runtime).version()  # a missing runtime is said before anything else
    wanted = list(layers)
    own, path = path is not None, path or cache_path(runtime, threads, batch)
    table = LatencyTable.load(path) if own and path.exists() else _cached(path)
    missing = wanted if table is None else table.missing(wanted)
    if table is not None and not missing:
        table = build_table([], runtime=runtime, threads=threads, batch=batch, rng=random.Random(seed), table=table)
        log.info("latency table: %s", path)
        return table
    log.info(
        "latency table: measuring %d layers with %s, %d thread(s), batch %d", len(missing), runtime, threads, batch
    )
    with progress("latency table", len(missing)) as shown:
        table = build_table(
            missing, runtime=runtime, threads=threads, batch=batch, rng=random.Random(seed), table=table,
            save=lambda part: part.save(path), progress=lambda done, total: shown.update(done, total, f"{done} layers"),
        )  # fmt: skip
    table.save(path)
    log.info("latency table: %s", path)
    return table


def _cached(path: Path) -> LatencyTable | None:
    if not path.exists():
        return None
    try:
        return LatencyTable.load(path)
    except BadInput as error:
        log.warning("the cached latency table is not usable and is measured anew: %s", error)
        return None
