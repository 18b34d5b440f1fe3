"""Draws README's pictures of a finished run: its comparison as the command prints it, and its Pareto front.

    python benchmarks/readme_pictures.py runs/RUN
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from common import options_parser
from rich.console import Console

from mnas.cli.output import networks_table, rich_table
from mnas.monitor.pareto import PlottedTrial, draw_pareto
from mnas.pipeline.winners import Result, result_of
from mnas.run import Run
from mnas.study.objective import front
from mnas.study.trial import ZERO_COST

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLUMNS = 108


def comparison(result: Result) -> str:
    """The terminal's table as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    table = rich_table(*networks_table(result.metrics), COLUMNS)
    assert table is not None
    console.print(table, highlight=False)
    return console.export_svg(title="mnas search --latency-ms 15", unique_id="mnas")


def pareto(result: Result, path: Path) -> None:
    """Accuracy and latency of every candidate as SVG."""
    complete = [trial for trial in result.trials if trial.state == "complete"]
    plotted = [
        PlottedTrial(trial.accuracy or 0, trial.latency_ms, trial.name, trial.fidelity == ZERO_COST)
        for trial in complete
    ]
    points = front((trial.accuracy or 0, trial.latency_ms) for trial in complete)
    budgets = [winner.budget_ms for winner in result.winners if winner.budget_ms is not None]
    matplotlib.rcParams["svg.hashsalt"] = "mnas"  # the same file for the same run
    draw_pareto(plotted, points, budgets, None).savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("run", type=Path)
    run = Run.open(parser.parse_args(arguments).run)
    result = result_of(run, run.config())
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "result.svg").write_text(comparison(result), encoding="utf-8")
    pareto(result, IMAGES / "pareto.svg")


if __name__ == "__main__":
    main()
