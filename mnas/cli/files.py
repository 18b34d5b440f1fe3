"""The table of a network's files, for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from mnas.cli.output import print_table

SHOWN_OPERATORS = 4
COLUMNS = (
    "network", "format", "precision", "files", "bytes", "latency_ms", "latency_low_ms", "latency_high_ms", "of_float32",
    "top1", "agreement", "largest_difference", "kept_in_float", "status",
)  # fmt: skip


def print_files(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and below it why int8 does not pay where it takes most of float32's time."""
    shown = [
        [
            row["format"], row["precision"] + ", pixels" * (row["input"] == "pixels"),
            "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.2f}", _latency(row),
            _percent(row.get("top1"), 2), _percent(row.get("agreement"), 1), row["status"],
        ]
        for row in rows
    ]  # fmt: skip
    print_table(title, ["format", "precision", "MB", "ms", "top-1", "as PyTorch", "status"], shown)
    for row in rows:
        for line in remarks(row):
            typer.echo(f"{row['format']} {row['precision']}: {line}")


def remarks(row: Mapping[str, Any]) -> list[str]:
    """What is to be known of a file beside its figures."""
    lines = []
    if row.get("unstable"):
        lines.append(f"the latency is vague: {row['unstable']}")
    if row.get("kept_in_float"):
        lines.append(f"in float32, for accuracy: {', '.join(row['kept_in_float'])}")
    if row.get("pays") is False:
        counts = sorted(row["float_operators"].items(), key=lambda item: -item[1])[:SHOWN_OPERATORS]
        stayed = ", ".join(f"{count} {name}" for name, count in counts) or "none"
        lines.append(f"int8 does not pay: {row['of_float32']:.2f} of float32's time; operators in float32: {stayed}")
    return lines


def files_csv(tables: Sequence[Mapping[str, Any]]) -> str:
    """All rows of all tables as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for row in table["rows"]:
            low, high = row.get("latency_interval_ms", (None, None))
            lists = {name: ";".join(row.get(name, ())) for name in ("files", "kept_in_float")}
            writer.writerow(
                {**row, **lists, "network": table["network"], "latency_low_ms": low, "latency_high_ms": high}
            )
    return text.getvalue()


def _latency(row: Mapping[str, Any]) -> str:
    if "latency_ms" not in row:
        return ""
    low, high = row["latency_interval_ms"]
    return f"{row['latency_ms']:.2f} +- {(high - low) / 2:.2f}"


def _percent(share: float | None, digits: int) -> str:
    return "" if share is None else f"{share:.{digits}%}"
