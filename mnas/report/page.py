"""RUN/report.html: the facts of a run, rendered into one page that needs nothing else."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from mnas.errors import one_line
from mnas.io.files import write_atomic
from mnas.monitor.figures import as_measured, count, value_on_test
from mnas.report import sections
from mnas.report.facts import Facts, gather
from mnas.report.latency import tables
from mnas.report.tables import benchmark, leaderboard
from mnas.report.words import standing, verdict
from mnas.run import Run
from mnas.version import __version__

log = logging.getLogger("mnas")


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, however far it is, to `path` or its report.html. Raises BadInput for damaged files."""
    path = path or run.report_path
    write_atomic(path, render(gather(run)))
    return path


def report_after(run: Run) -> None:
    """Write the page when a search ends; where that fails, the search has succeeded all the same, and the log says why.
    """
    try:
        log.info("report: %s", write_report(run))
    except KeyboardInterrupt:
        log.warning("interrupted; the search is finished: mnas report %s writes its page", run.folder)
        raise
    except Exception as error:  # whatever is wrong with a page, the winner is there
        why = one_line(str(error)) or type(error).__name__
        log.warning("no report.html was written: %s; mnas report %s tries again", why, run.folder)


def render(facts: Facts) -> str:
    """The page as HTML."""
    status, way_on = standing(facts)
    found = tables(facts.run, len(facts.config.targets))
    values = {
        "title": f"{Path(facts.config.space).stem} {_goal(facts)}", "status": status, "way_on": way_on,
        "verdicts": [(winner, verdict(winner)) for winner in facts.winners],
        "several": len(facts.winners) > 1, "scored": sections.is_scored(facts),
        "front": sections.front_section(facts), "networks": [sections.networks(one) for one in facts.winners],
        "blocks": sections.blocks(facts, found[0]), "latency": sections.latency_section(facts, found),
        "races": sections.races(facts), "curves": sections.curves(facts),
        "random": sections.random_chart(facts), "confusions": [
            sections.confusion(one, sections.MOST_MISTAKES // len(facts.winners)) for one in facts.winners
            if "confusion" in one.metrics
        ],
        "pictures": [(winner, picture) for winner in facts.winners if (picture := sections.predictions(winner))],
        "by_class": [sections.by_class(one) for one in facts.winners if "figure" in one.metrics],
        "leaderboard": leaderboard(facts), "benchmarks": [benchmark(one) for one in facts.winners],
        "run": shlex.quote(str(facts.run.folder)), "facts": facts, "configuration": _configuration(facts.about),
        "command": one_line(re.sub(r"^__main__\.py\b", "mnas", str(facts.about.get("command", "")))),
        "version": __version__,
    }  # fmt: skip
    return _environment().get_template("report.html.j2").render(values)


def _goal(facts: Facts) -> str:
    config = facts.config
    budgets = config.budgets_ms or [target.latency_ms for target in config.targets]
    stated = [f"{ms:g}" for ms in budgets if ms is not None]
    return f"within {' and '.join(stated)} ms" if stated else "Pareto front"


def _configuration(about: Mapping[str, Any]) -> str:
    """config.yaml without the space's file, which is long, and without passwords."""
    config = {key: value for key, value in about.get("config", {}).items() if key != "space_file"}
    text = yaml.safe_dump({**about, "config": config}, sort_keys=False, allow_unicode=True)
    return "\n".join(map(one_line, text.splitlines()))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined, autoescape=True,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": lambda share, digits=2: "" if share is None else f"{share:.{digits}%}",
        "ms": lambda ms: "" if ms is None else f"{ms:,.2f}", "as_measured": as_measured, "count": count,
        "millions": lambda number: f"{number / 1e6:,.2f} M", "thousands": lambda number: f"{number:,}",
        "on_test": value_on_test, "quoted": lambda text: shlex.quote(str(text)),
    }  # fmt: skip
    return environment
