"""Options paired into the devices that a winner must suit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnas.config import Target, positive_ms
from mnas.errors import BadInput
from mnas.latency.table.table import load_table


def targets_and_budgets(
    latency_ms: float | Sequence[float] | None, runtime: str | Sequence[str | None],
    latency_table: str | Path | Sequence[str | Path | None] | None,
) -> tuple[tuple[Target, ...], tuple[float, ...]]:  # fmt: skip
    """The devices, and the ascending budgets where one device has several; its target then has the largest."""
    budgets, runtimes, tables = _as_list(latency_ms), _as_list(runtime), _as_list(latency_table)
    if None in budgets or len(runtimes) > 1 or len(tables) > 1:
        return pair_targets(budgets, runtimes, tables), ()
    distinct = tuple(sorted({positive_ms(ms) for ms in budgets}))
    return pair_targets(distinct[-1:], runtimes, tables), distinct if len(distinct) > 1 else ()


def pair_targets(
    latency_ms: float | Sequence[float] | None, runtime: str | Sequence[str | None],
    latency_table: str | Path | Sequence[str | Path | None] | None,
) -> tuple[Target, ...]:  # fmt: skip
    """Budgets with runtimes and tables, in order; a single runtime or table goes with every budget.

    None stands for a runtime or a table that is not stated. An imported table has its own runtime.
    """
    budgets = _as_list(latency_ms)
    runtimes = _for_each(_as_list(runtime), len(budgets), "--runtime")
    tables = _for_each(_as_list(latency_table), len(budgets), "--latency-table")
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
        device = target.runtime, target.latency_table
        if any((earlier.runtime, earlier.latency_table) == device for earlier in targets):
            raise BadInput(
                f"two latency budgets for one device ({target.latency_table or target.runtime}): give --runtime or "
                "--latency-table once for each --latency-ms, in the same order"
            )
        targets.append(target)
    if len(targets) > 1 and None in budgets:
        raise BadInput("several devices, but not a budget for each: give --latency-ms with each runtime or table")
    return tuple(targets)


def _as_list(values: Any) -> list[Any]:
    """A sequence as a list, a single value as a list of one."""
    return list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]


def _for_each(values: list[Any], budgets: int, option: str) -> list[Any]:
    """One value for each budget."""
    if len(values) == budgets:
        return values
    if len(values) != 1:
        raise BadInput(
            f"{len(values)} times {option} and {budgets} latency budget{'s' * (budgets != 1)}: give {option} once, or "
            "once for each --latency-ms, in the same order; several budgets are only possible with one device"
        )
    return values * budgets
