"""The tables of a report: the leaderboard, and the formats of a winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnas.io.size import written
from mnas.monitor.figures import decimals
from mnas.monitor.files import precision, remarks
from mnas.report.facts import Facts, Handed
from mnas.study.trial import ZERO_COST, Trial

MOST_ROWS = 60
"""Rows of the leaderboard; leaderboard.csv has all."""
LEADERBOARD = (
    ("name", "name"), ("state", "state"), ("accuracy", "accuracy"), ("accuracy_kind", "of"), ("spread", "±"),
    ("latency_measured_ms", "measured ms"), ("latency_predicted_ms", "predicted ms"), ("resolution", "px"),
    ("madds", "MAdds"), ("params", "parameters"), ("epochs", "epochs"), ("seconds", "seconds"),
)  # fmt: skip
"""The columns of leaderboard.csv that are shown, with their heads."""


def leaderboard(facts: Facts) -> dict[str, Any]:
    """The networks of the run, the best first, as leaderboard.csv has them; before the first race the trials."""
    rows: Sequence[Mapping[str, str]] = facts.searched.leaderboard
    if not rows:
        rows = [_trial_row(one) for one in sorted(
            facts.searched.trials, key=lambda one: (one.state != "complete", -(one.accuracy or 0.0))
        )]  # fmt: skip
    columns = [(key, head) for key, head in LEADERBOARD if any(row.get(key) for row in rows)]
    cells = [[_cell(key, row) for key, _ in columns] for row in rows[:MOST_ROWS]]
    heads = [facts.figure_name if key == "accuracy" else head for key, head in columns]
    return {"heads": heads, "rows": cells, "all": len(rows)}


def _trial_row(trial: Trial) -> dict[str, str]:
    return {
        "name": trial.name or f"trial {trial.number}", "state": trial.state, "accuracy_kind": trial.fidelity,
        "accuracy": "" if trial.accuracy is None else str(trial.accuracy),
        "spread": "" if trial.spread is None else str(trial.spread), "latency_predicted_ms": str(trial.latency_ms),
        "resolution": str(written(trial.architecture.resolution)),
    }  # fmt: skip


def _cell(key: str, row: Mapping[str, str]) -> str:
    """A cell of leaderboard.csv as the page shows it."""
    text = row.get(key) or ""
    try:
        value = float(text)
    except ValueError:
        return text.replace("_", " ") if key == "state" else text
    if key in ("accuracy", "spread"):
        scored = row.get("accuracy_kind") == ZERO_COST
        return f"{value:.3f}" if scored else f"{value:.2%}" if key == "accuracy" else f"{100 * value:.1f}"
    if key.startswith("latency"):
        return f"{value:.2f}"
    return f"{value:,.0f}" if key in ("madds", "params", "seconds") else text


BENCHMARK = (
    ("format", "format"), ("precision", "precision"), ("latency_ms", "latency ms"),
    ("latency_interval_ms", "95% interval"), ("of_float32", "of float32"), ("top1", "top-1"),
    ("agreement", "as PyTorch"), ("largest_difference", "largest difference"), ("bytes", "MB"), ("status", "status"),
    ("files", "files"),
)  # fmt: skip
"""The columns of benchmark.json that are shown, with their heads."""
WORDS = ("format", "precision", "status", "files")
"""Columns of the tables that are no numbers."""


def benchmark(winner: Handed) -> dict[str, Any] | None:
    """The table of formats and precisions, and what is to be known beside it; None where nobody made it."""
    about = winner.benchmark
    if not about:
        return None
    columns = [(key, head) for key, head in BENCHMARK if any(row.get(key) not in (None, []) for row in about["rows"])]
    rows = [[_benchmark_cell(key, row) for key, _ in columns] for row in about["rows"]]
    words = [place for place, (key, _) in enumerate(columns) if key in WORDS]
    return {"winner": winner, "about": about, "heads": [head for _, head in columns], "rows": rows, "words": words,
            "remarks": remarks(about["rows"])}  # fmt: skip


def _benchmark_cell(key: str, row: Mapping[str, Any]) -> str:
    value = row.get(key)
    if key == "status":
        return "ok" if value == "ok" else "failed"  # why is in the remarks
    if key == "precision":
        return precision(row)
    if value is None or isinstance(value, bool | str):
        return "" if value is None else str(value)
    if key == "files":
        return ", ".join(map(str, value)) if isinstance(value, list) else ""
    low, high = _interval(row)
    if key == "latency_interval_ms":
        return f"{low:.{decimals((high - low) / 2)}f} to {high:.{decimals((high - low) / 2)}f}"
    shown = {
        "latency_ms": f"{value:.{decimals((high - low) / 2)}f}", "of_float32": f"{value:.2f}", "top1": f"{value:.2%}",
        "agreement": f"{value:.2%}", "largest_difference": f"{value:.1g}", "bytes": f"{value / 1e6:.2f}",
    }  # fmt: skip
    return shown[key]


def _interval(row: Mapping[str, Any]) -> tuple[float, float]:
    match row.get("latency_interval_ms"):
        case [float() | int() as low, float() | int() as high]:
            return low, high
    return 0.0, 0.0
