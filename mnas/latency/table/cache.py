"""This machine's latency table: kept in the user's cache, missing layers measured when first needed."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock

from mnas.errors import BadInput
from mnas.io.files import user_cache
from mnas.latency.runtimes import Runtime, get_runtime
from mnas.latency.table.build import build_table
from mnas.latency.table.calibrate import calibrate
from mnas.latency.table.table import LatencyTable, differences
from mnas.monitor.console import progress
from mnas.space.layer import Layer
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")

INEXACT = 0.05
"""A table with a larger mean error was measured on a busy machine: it is calibrated again, then measured again."""


def table_for(
    space: SearchSpace, num_classes: int, *, runtime: str, threads: int, batch: int, seed: int = 0,
    path: Path | None = None, accepted: float = 0.0,
) -> LatencyTable:
    """A calibrated table of the space's layers, from `path` (the user's cache by default).

    What it lacks is measured and added; where something was added, or another space was calibrated on, it is
    calibrated anew. What turns out inexact is measured once more, since a busy machine is the usual reason, and the
    better of both is kept; a mean error up to `accepted` is exact enough.
    """
    own, path = path is not None, path or cache_path(space, runtime, threads, batch)
    with _alone():
        return _table_for(
            space, num_classes, get_runtime(runtime), threads, batch, seed, path, own=own, accepted=accepted
        )


def _table_for(
    space: SearchSpace, num_classes: int, adapter: Runtime, threads: int, batch: int, seed: int, path: Path, *,
    own: bool, accepted: float,
) -> LatencyTable:  # fmt: skip
    table = LatencyTable.load(path) if own and path.exists() else _cached(path)
    differ = [] if table is None else differences(table, runtime=adapter.name, threads=threads, batch=batch)
    if differ:
        raise BadInput(f"{path}: measured on {'; '.join(differ)}; remove it, or name another file for a new table")
    if own:
        path.parent.mkdir(parents=True, exist_ok=True)  # what cannot be written is said before anything is measured
    wanted = sorted(space.layers(num_classes), key=str)
    limit, rng = max(INEXACT, accepted), random.Random(seed)

    def attempt(begun: LatencyTable | None, save: Callable[[LatencyTable], None]) -> LatencyTable:
        whole = _complete(begun, wanted, adapter, threads, batch, rng, save)
        return _judged(whole, wanted, space, num_classes, rng, limit)

    found = attempt(table, lambda part: part.save(path))
    if not found.missing(wanted) and _error(found) > limit:
        log.warning(
            "latency table: off by %.1f%% in the mean: was the machine busy? All is measured once more",
            100 * _error(found),
        )  # fmt: skip
        found.save(path)  # stays as it is where the second attempt is interrupted
        found = min(found, attempt(_without(found, wanted), lambda part: None), key=_error)
        log.info("latency table: off by %.1f%% in the better of both", 100 * _error(found))
    if found is not table:
        found.save(path)
    log.info("latency table: %s", path)
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process of this user measures at a time: two would spoil each other's times."""
    lock = filelock.FileLock(user_cache("latency") / ".lock")
    with contextlib.suppress(OSError):  # where the cache cannot be written, nobody waits
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("latency table: waiting for another process, which measures")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _error(table: LatencyTable) -> float:
    """The mean error that a table states; infinite where it states none."""
    return math.inf if table.calibration is None else table.calibration.mean_error


def _without(table: LatencyTable, layers: Sequence[Layer]) -> LatencyTable | None:
    """What `table` has beside `layers`, for those to be measured again at the same speed; None where it has no more."""
    others = table.only(set(table.entries) - set(layers))
    return others.uncalibrated() if others.entries else None


def _complete(
    table: LatencyTable | None, wanted: Sequence[Layer], adapter: Runtime, threads: int, batch: int,
    rng: random.Random, save: Callable[[LatencyTable], None],
) -> LatencyTable:  # fmt: skip
    """The table with every layer wanted that runs; `save` gets what was measured, after an interruption too."""
    missing = list(wanted) if table is None else [one for one in table.missing(wanted) if one not in table.failed]
    if table is None or missing:
        log.info(
            "latency table: measuring %d layers with %s, %d thread(s), batch %d", len(missing), adapter.name, threads,
            batch,
        )  # fmt: skip
        with progress("latency table", len(missing)) as shown:
            table = build_table(
                missing, runtime=adapter.name, threads=threads, batch=batch, rng=rng, table=table,
                save=save,
                progress=lambda done, total: shown.update(done, total, f"{done} layers"),
            )  # fmt: skip
    if table.failed:
        layer, why = next(iter(table.failed.items()))
        log.warning("%s failed on %d layers, such as %s: %s", adapter.name, len(table.failed), layer, why)
    return table


def _judged(
    table: LatencyTable, wanted: Sequence[Layer], space: SearchSpace, num_classes: int, rng: random.Random,
    limit: float,
) -> LatencyTable:  # fmt: skip
    """The table calibrated on networks of `space`; anew where those were others, or its error was above `limit`."""
    fit, speaks_of = table.calibration, (space.name, tuple(sorted(space.resolutions)))
    known = fit is not None and (fit.space, fit.resolutions) == speaks_of and fit.mean_error <= limit
    if known or table.missing(wanted):
        return table
    with progress("calibration", 1.0) as shown:
        table = calibrate(
            table.uncalibrated(), space, num_classes, rng=rng,
            progress=lambda done, total: shown.update(done / total, 1.0, "whole networks"),
        )
    log.info("latency table: %s", table.calibration)
    return table


def cache_path(space: SearchSpace, runtime: str, threads: int, batch: int) -> Path:
    """Where this device's table of a space and runtime is kept between runs."""
    adapter = get_runtime(runtime)
    sizes = "-".join(map(str, sorted(space.resolutions)))
    where = f"{runtime} {adapter.version()} threads {threads} batch {batch} {adapter.device_name()}"
    words = f"{space.name} {sizes} px {where}{' framed' * adapter.framed}"
    return user_cache("latency") / (re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.") + ".yaml")


def _cached(path: Path) -> LatencyTable | None:
    if not path.exists():
        return None
    try:
        return LatencyTable.load(path)
    except BadInput as error:
        log.warning("the cached latency table is not usable and is measured anew: %s", error)
        return None
