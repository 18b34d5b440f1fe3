"""The devices that a winner must suit: options in pairs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnas.config import Target, positive_ms
from mnas.errors import BadInput
from mnas.latency.table.table import LatencyTable

log = logging.getLogger("mnas")



def asked_for(
    latency_ms: float | Sequence[float] | None, runtime: str | Sequence[str | None],
    latency_table: str | Path | Sequence[str | Path | None] | None,
) -> tuple[tuple[Target, ...], tuple[float, ...]]:  # fmt: skip
    """The devices, and the budgets, ascending, where several are given for one device; its own is then the largest."""
    budgets, runtimes, tables = _listed(latency_ms), _listed(runtime), _listed(latency_table)
    if None in budgets or len(runtimes) > 1 or len(tables) > 1:
        return paired(budgets, runtimes, tables), ()
    different = tuple(sorted({positive_ms(ms) for ms in budgets}))
    return paired(different[-1:], runtimes, tables), different if len(different) > 1 else ()


def paired(
    latency_ms: float | Sequence[float] | None, runtime: str | Sequence[str | None],
    latency_table: str | Path | Sequence[str | Path | None] | None,
) -> tuple[Target, ...]:  # fmt: skip
    """Budgets with runtimes and tables, in order; a runtime or a table that is given once holds for every budget.

    None holds the place of a runtime or a table that is not stated. An imported table brings its own runtime.
    """
    budgets = _listed(latency_ms)
    runtimes = _for_each(_listed(runtime), len(budgets), "--runtime")
    tables = _for_each(_listed(latency_table), len(budgets), "--latency-table")
    targets: list[Target] = []
    for ms, name, table in zip(budgets, runtimes, tables, strict=True):
        path = None if table is None else Path(table).expanduser().resolve()
        if path is not None:
            loaded = load_table(path)
            name = loaded.runtime if name is None or loaded.origin == "imported" else name
        target = Target(
            runtime=name or "torch", latency_table=None if path is None else str(path),
            latency_ms=None if ms is None else positive_ms(ms),
        )  # fmt: skip
        if any((one.runtime, one.latency_table) == (target.runtime, target.latency_table) for one in targets):
            raise BadInput(
                f"two latency budgets for one device ({target.latency_table or target.runtime}): give --runtime or "
                "--latency-table once for each --latency-ms, in the same order"
            )
        targets.append(target)
    if len(targets) > 1 and None in budgets:
        raise BadInput("several devices and not a budget for each: give a latency budget with each runtime or table")
    return tuple(targets)


def _listed(given: Any) -> list[Any]:
    """Several values as they are, one as a list of it."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _for_each(given: list[Any], count: int, option: str) -> list[Any]:
    if len(given) == count:
        return given
    if len(given) != 1:
        raise BadInput(
            f"{len(given)} times {option} and {count} latency budget{'s' * (count != 1)}: give {option} once, or once "
            "for each --latency-ms, in the same order; several budgets are for one device alone"
        )
    return given * count


def load_table(path: Path) -> LatencyTable:
    """The table in a file; a search asks for it several times, and thousands of rows take a second to read."""
    return _loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=4)
def _loaded(path: Path, changed_ns: int) -> LatencyTable:
    return LatencyTable.load(path)
