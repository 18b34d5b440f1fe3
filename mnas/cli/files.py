"""The table of a network's files, for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from mnas.cli.output import print_table
from mnas.monitor.figures import with_spread
from mnas.monitor.files import precision, remarks

COLUMNS = (
    "network", "format", "precision", "files", "bytes", "latency_ms", "latency_low_ms", "latency_high_ms", "of_float32",
    "top1", "accuracy_lost", "agreement", "largest_difference", "kept_in_float", "status",
)  # fmt: skip


def print_files(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and below it what is to be known beside its figures."""
    shown = [
        [
            row["format"], precision(row), "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.2f}", _latency(row),
            _percent(row.get("top1"), 2), _percent(row.get("agreement"), 1),
            "ok" if row["status"] == "ok" else "failed",  # why is said below: a long cell would break the table
        ]
        for row in rows
    ]  # fmt: skip
    print_table(title, ["format", "precision", "MB", "ms", "top-1", "as PyTorch", "status"], shown)
    for line in remarks(rows):
        typer.echo(line)


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
    return with_spread(row["latency_ms"], (high - low) / 2)


def _percent(share: float | None, digits: int) -> str:
    return "" if share is None else f"{share:.{digits}%}"
