"""What is to be known of a network's files beside their figures, as the terminal and the report say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_OPERATORS = 4
WORTH_SAYING = 0.005
"""Accuracy that an int8 file may lose without a word: the same 0.5 points from which layers are kept in float32."""

Row = Mapping[str, Any]
"""A row of the table of files: see docs/formats.md."""


def remarks(rows: Sequence[Row]) -> list[str]:
    """What failed, how int8 compares with float32 and why it does not pay, and how far the latencies can be trusted."""
    lines = []
    for row in rows:
        lines += [f"{name(row)}: {line}" for line in (*_failure(row), *_int8(row))]
    return [*lines, *_vagueness(rows)]


def name(row: Row) -> str:
    """Of a file: 'onnx int8', 'onnx int8, pixels'."""
    return f"{row.get('format')} {precision(row)}"


def precision(row: Row) -> str:
    """Of a file, and whether it takes pixels."""
    return f"{row.get('precision')}{', pixels' if row.get('input') == 'pixels' else ''}"


def _failure(row: Row) -> list[str]:
    return [] if row.get("status", "ok") == "ok" else [str(row["status"])]


def _int8(row: Row) -> list[str]:
    """An int8 file beside the float32 one: its time and accuracy, and what stays in float32."""
    lines = []
    share, operators = row.get("of_float32"), row.get("float_operators") or {}
    if share is not None:
        said = f"{share:.2f} of float32's time"
        if row.get("pays") is False:
            counts = sorted(operators.items(), key=lambda item: -item[1])[:SHOWN_OPERATORS]
            stayed = ", ".join(f"{count} {operator}" for operator, count in counts) or "none"
            said += f": int8 does not pay; operators in float32: {stayed}"
        lines.append(said)
    lost, kept = row.get("accuracy_lost"), row.get("kept_in_float")
    if lost is not None and lost > WORTH_SAYING:
        lines.append(f"{100 * lost:.1f} points less accurate than float32")
    if kept:
        lines.append(f"in float32, for accuracy: {', '.join(kept)}")
    return lines


def _vagueness(rows: Sequence[Row]) -> list[str]:
    """Why latencies are uncertain: what holds for all of them once, the rest for each file."""
    timed = [row for row in rows if row.get("latency_ms") is not None]
    reasons = [str(row["unstable"]).split("; ") if row.get("unstable") else [] for row in timed]
    common = [one for one in reasons[0] if all(one in others for others in reasons)] if len(timed) > 1 else []
    lines = [f"all latencies are vague: {'; '.join(common)}"] if common else []
    for row, own in zip(timed, reasons, strict=True):
        if left := [one for one in own if one not in common]:
            lines.append(f"{name(row)}: the latency is vague: {'; '.join(left)}")
    return lines
