"""What a command prints: a table for people, or one JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from mnas.cli.errors import INTERRUPTED
from mnas.errors import Infeasible, MnasError


@contextmanager
def only_main_process() -> Iterator[None]:
    """Only the main one of torchrun's processes reports why they end."""
    try:
        yield
    except (MnasError, KeyboardInterrupt) as error:
        if _is_main():
            raise
        raise typer.Exit(getattr(error, "exit_code", INTERRUPTED)) from None


def _is_main() -> bool:
    """Whether this is the main one of torchrun's processes, or a single process."""
    return os.environ.get("RANK", "0") == "0"


def show(data: Any, as_json: bool, table: Callable[[], None]) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        table()


def print_result(result: Any, as_json: bool) -> None:
    """The comparison; ends the command with Infeasible's exit code where one of several budgets has no winner."""
    if not _is_main():
        return
    winners = [
        {"folder": str(winner.folder), "budget_ms": winner.budget_ms, "network": winner.metrics["networks"][0]}
        for winner in result.winners
    ]
    done = {
        "folder": str(result.folder), "winner": str(result.winner.folder), "winners": winners,
        "missed_ms": list(result.missed_ms), **result.metrics,
    }  # fmt: skip
    show(done, as_json, lambda: print_networks(done))
    if result.missed_ms:
        budgets = " and ".join(f"{ms:g}" for ms in result.missed_ms)
        typer.echo(
            f"error: no candidate keeps {budgets} ms as a whole network; if the machine was busy, measure again: "
            f"mnas resume {result.folder}", err=True,
        )  # fmt: skip
        raise typer.Exit(Infeasible.exit_code)


def print_networks(done: dict[str, Any]) -> None:
    """The comparison: winners first, then the baselines."""
    rows, targets, winners = [], done["networks"][0]["latencies"], done.get("winners", [])
    for row in [*(one["network"] for one in winners[:-1]), *done["networks"]]:
        size, seen = row["resolution"], row["accuracy_resolution"]
        pixels = str(size) if size == seen else f"{size} (accuracy {seen})"
        size_of = f"{row['madds'] / 1e6:,.1f} M", f"{row['params']:,}", pixels
        epochs = row.get("epochs", done["accuracy"]["epochs"])
        trained = f"{epochs} epoch{'s' * (epochs != 1)}" + ", inherited" * (row.get("weights") == "inherited")
        accuracy = f"{row['test_accuracy']:.2%}"
        rows.append([row["name"], accuracy, trained, *size_of, *map(_latency, row["latencies"])])
    title = f"{done['accuracy']['data']}: {done['accuracy']['test_images']} test images"
    columns = ["network", "test accuracy", "trained", "MAdds", "parameters", "px"]
    for number, one in enumerate(targets, start=1):
        which = f" {number}" * (len(targets) > 1)
        columns.append(f"latency{which} (ms)")
        budgets = [winner["budget_ms"] for winner in winners] if len(winners) > 1 else [one["budget_ms"]]
        budget = f", budget {'/'.join(f'{ms:g}' for ms in budgets)} ms" if one["budget_ms"] else ""
        how = ", predicted by the table of this device, not measured" if one["how"] == "predicted" else ""
        where = f"{one['device']}, {one['runtime']}, {one['threads']} thread(s), batch {one['batch']}"
        title += f"\n{f'{number}: ' if which else ''}{where}{budget}{how}"
    print_table(title, columns, rows)
    typer.echo("\n".join(winner["folder"] for winner in winners) or done["folder"])


def _latency(one: dict[str, Any]) -> str:
    if one["latency_ms"] is None:
        return str(one["how"])
    spread = f" +- {one['spread_ms']:.2f}" if one["spread_ms"] else ""
    return f"{one['latency_ms']:.2f}{spread}" + " (over budget)" * (one["keeps"] is False)


PIPE_WIDTH = 100
"""Columns of a file or a pipe; a wider table is printed as a list."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table as wide as the terminal; on a pipe, a list of its rows where it is wider than PIPE_WIDTH."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
        if console.measure(table, options=console.options.update(max_width=10_000)).maximum > PIPE_WIDTH:
            typer.echo("\n".join([title, *(_as_list(columns, row) for row in rows)]))
            return
    console.print(table, highlight=False)


def _as_list(columns: Sequence[str], row: Sequence[Any]) -> str:
    """A row as its first cell, with one line for each of the others that is not empty."""
    cells = [f"  {column}: {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if str(cell)]
    return "\n".join([str(row[0]), *cells])
