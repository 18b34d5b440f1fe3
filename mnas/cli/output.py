"""What a command prints: a table for people, or one JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from mnas.errors import Infeasible, MnasError, one_line
from mnas.io.interrupt import INTERRUPTED
from mnas.monitor.figures import BY_CLASS, NAMES, OTHERS, as_measured, count, figure_of, value_on_test, with_spread

if TYPE_CHECKING:
    from rich.table import Table

ANSWERS = {"segmentation": ("share",), "detection": ("probability", "x1, y1, x2, y2 (px)")}
"""The columns of what a network with a head says of an image."""

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
    """Print a command's result, in the main one of torchrun's processes."""
    if not _is_main():
        return
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        table()


def print_result(result: Any, as_json: bool) -> None:
    """The comparison; ends the command with Infeasible's exit code where one of several budgets has no winner."""
    if not _is_main():
        return
    try:
        _print_result(result, as_json)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; the search is finished, in {result.folder}: mnas report {result.folder}", err=True)
        raise


def _print_result(result: Any, as_json: bool) -> None:
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
    """The comparison of the networks, and the folders of the winners."""
    print_table(*networks_table(done))
    name = done["networks"][0]["name"]
    for one in done.get("verdicts", []):
        typer.echo(f"{name} and {one['baseline']}: {one['verdict']}")
    typer.echo("\n".join(winner["folder"] for winner in done.get("winners", [])) or done["folder"])


def print_figures(done: dict[str, Any], figures: dict[str, Any]) -> None:
    """The figures of a network with a head on a split, by class too."""
    (by_class, title), = (BY_CLASS[key] for key in figures if key in BY_CLASS)
    rows = [[one_line(name), _share(value)] for name, value in figures[by_class].items()]
    plain = NAMES | OTHERS
    shown = ", ".join(f"{plain[key]} {_share(value)}" for key, value in figures.items() if key in plain)
    print_table(f"{done['folder']}, {done['resolution']} px", ["class", title], rows)
    typer.echo(f"{shown} of {figures['images']} {done.get('split', 'test')} images, in {done['judged_at']}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def print_trials(done: dict[str, Any]) -> None:
    """The trials that were handed over, with their folders."""
    rows = []
    for one in done["exported"]:
        row = one["networks"][0]
        rows.append([one["trial"], _accuracy(row), _latency(row["latencies"][0]), row["resolution"], one["folder"]])
    figure = NAMES[figure_of(done["exported"][0]["networks"][0])]
    print_table(done["folder"], ["trial", f"test {figure}", "latency (ms)", "px", "folder"], rows)


def print_predictions(done: dict[str, Any]) -> None:
    """The classes of each image, the most probable first."""
    images = done["images"]
    columns = ["image", "class", *(f"{rank}." for rank in range(2, 1 + len(images[0]["predictions"])))]
    rows = [
        [one_line(one["image"]), *(f"{guess['class']} {guess['probability']:.1%}" for guess in one["predictions"])]
        for one in images
    ]
    count = f"{len(images)} image{'s' * (len(images) != 1)}"
    print_table(f"{done['file']}, {done['runtime']}, {done['resolution']} px: {count}", columns, rows)


def print_answers(done: dict[str, Any]) -> None:
    """What a network with a head says of each image, and the files that were written."""
    rows, columns = [], ["image", "class", *ANSWERS[done["task"]]]
    for image in done["images"]:
        said = image["predictions"] or [{"class": "-"}]
        rows += [[one_line(image["image"]), one_line(one["class"]), *_answer(one)][: len(columns)] for one in said]
    count = f"{len(done['images'])} image{'s' * (len(done['images']) != 1)}"
    title = f"{done['file']}, {done['runtime']}, {done['resolution']} px: {count}"
    print_table(title, columns, rows)
    for image in done["images"]:
        if "file" in image:
            typer.echo(image["file"])
    for image in done["skipped"]:
        typer.echo(f"skipped {one_line(image['image'])}: {one_line(image['reason'])}")


def _answer(one: dict[str, Any]) -> list[str]:
    """The share or the probability, and the box."""
    share = one.get("share", one.get("probability"))
    return ["" if share is None else f"{share:.1%}", ", ".join(f"{side:.0f}" for side in one.get("box", []))]


def networks_table(done: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows of the comparison: winners first, then the baselines that are other networks."""
    devices, winners = done["networks"][0]["latencies"], done.get("winners", [])
    again = {one["baseline"] for one in done.get("verdicts", []) if one["half_width"] is None}  # the winner itself
    networks = [*(winner["network"] for winner in winners[:-1]), *done["networks"]]
    rows = [_network_row(row, done["accuracy"]["epochs"]) for row in networks if row["name"] not in again]
    title = f"{done['accuracy']['data']}: {done['accuracy']['test_images']} test images"
    columns = ["network", f"test {NAMES[figure_of(networks[0])]}", "trained", "MAdds", "parameters", "px"]
    for number, device in enumerate(devices, start=1):
        which = f" {number}" * (len(devices) > 1)
        columns.append(f"latency{which} (ms)")
        budgets = [winner["budget_ms"] for winner in winners] if len(winners) > 1 else [device["budget_ms"]]
        budget = f", budget {'/'.join(f'{ms:g}' for ms in budgets)} ms" if device["budget_ms"] else ""
        how = ", predicted by this device's table, not measured" if device["how"] == "predicted" else ""
        where = f"{device['device']}, {device['runtime']}, threads: {device['threads']}, batch {device['batch']}"
        title += f"\n{f'{number}: ' if which else ''}{where}{budget}{how}"
    return title, columns, rows


def _network_row(row: dict[str, Any], default_epochs: int) -> list[str]:
    size, trained_at = row["resolution"], row.get("accuracy_resolution", row["resolution"])
    epochs = row.get("epochs", default_epochs)
    return [
        row["name"], _accuracy(row),
        count(epochs, "epoch") + ", inherited" * (row.get("weights") == "inherited"),
        f"{row['madds'] / 1e6:,.1f} M", f"{row['params']:,}",
        str(size) if size == trained_at else f"{size} (accuracy {trained_at})", *map(_latency, row["latencies"]),
    ]  # fmt: skip


UNBALANCED = 0.005
"""Balanced accuracy is shown where it differs by more."""


def _accuracy(row: dict[str, Any]) -> str:
    """Of the network that is handed over, and what more is known: top-5, the mean over seeds."""
    seeds = row.get("seeds", {})
    sd = "" if seeds.get("sd") is None else (
        f", mean of {len(seeds.get('accuracies', seeds.get('values')))} seeds {seeds['mean']:.2%} +- {seeds['sd']:.2%}"
    )  # fmt: skip
    top5 = f", top-5 {row['top5_accuracy']:.2%}" if "top5_accuracy" in row else ""
    value = value_on_test(row)
    balanced = row.get("balanced_accuracy", value)
    apart = abs(balanced - value) > UNBALANCED
    return f"{value:.2%}{f', balanced {balanced:.2%}' if apart else ''}{top5}{sd}"


def _latency(latency: dict[str, Any]) -> str:
    if latency["latency_ms"] is None:
        return str(latency["how"])
    measured = as_measured(latency.get("measured_ms"), latency.get("speed_factor"))
    shown = with_spread(latency["latency_ms"], latency["spread_ms"] or 0.0)
    return f"{shown}{measured}" + " (over budget)" * (latency["keeps"] is False)


PIPE_WIDTH = 100
"""Width in characters of a table in a file or on a pipe; a wider table is printed as a list."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table that fits the terminal, its cells wrapped between words; a list of the rows where it cannot fit.

    On a pipe, a table that fits PIPE_WIDTH without wrapping, or a list.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = rich_table(title, columns, rows, console.width)
    if table is None or (not console.is_terminal and _table_width(_natural_widths(columns, rows)) > PIPE_WIDTH):
        typer.echo("\n".join([title, *(_as_list(columns, row) for row in rows)]))
    else:
        console.print(table, highlight=False)


def rich_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> Table | None:
    """A table of at most `width` characters, its cells wrapped between words; None if its words are too long."""
    from rich.markup import escape
    from rich.table import Table

    words = [[word for cell in column for word in str(cell).split()] for column in zip(columns, *rows, strict=True)]
    longest, widths = [max(map(len, column), default=0) for column in words], _natural_widths(columns, rows)
    while _table_width(widths) > width:
        wide = [i for i in range(len(widths)) if widths[i] > longest[i]]
        if not wide:
            return None
        widths[max(wide, key=lambda i: widths[i])] -= 1
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", width=widths[i])
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def _natural_widths(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
    """Characters of each column's longest cell."""
    return [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]


def _table_width(widths: Sequence[int]) -> int:
    return sum(widths) + 3 * len(widths) + 1  # two spaces and a border for each column


def _as_list(columns: Sequence[str], row: Sequence[Any]) -> str:
    """A row as its first cell, with one line for each of the others that is not empty."""
    cells = [f"  {column}: {cell}" for column, cell in zip(columns[1:], row[1:], strict=True) if str(cell)]
    return "\n".join([str(row[0]), *cells])
