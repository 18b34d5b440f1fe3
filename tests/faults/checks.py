"""What must hold after a kill, after a resume, and in the end. What does not is added to the round."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnas.export.folder import load_model

from .processes import Ended
from .searches import Search
from .zygote import INTERVAL

if TYPE_CHECKING:
    from .kills import Round

GONE_S = 20.0
"""Seconds after which a process must be gone that was asked to end."""
SECTION = 10
"""Rows of a table that are measured together."""
MOST = {"supernet": INTERVAL, "train": 1, "latency table": SECTION}
"""Steps that a kill may cost: those since the last checkpoint."""
FILES = {
    "model.py", "weights.safetensors", "weights.safetensors.sha256", "architecture.yaml", "preprocessing.json",
    "splits.json", "metrics.json", "README.md",
}  # fmt: skip
"""Of a complete winner."""
STATES = {"complete": "COMPLETE", "repeated": "COMPLETE", "failed": "FAIL", "pruned": "PRUNED", "over_budget": "PRUNED"}


def after_kill(search: Search, one: Round) -> None:
    """The exit code, the line that says how to go on, the time to end, and whole files."""
    asked, code = one.signal != signal.SIGKILL, one.ended.code
    if code != (130 if asked else -signal.SIGKILL):
        one.wrong.append(f"exit code {code}")
    if asked and not any(re.search(f"mnas (resume|report) {search.run}", line) for line in one.ended.lines):
        one.wrong.append("no line says how to continue")
    if asked and one.ended.gone_s > GONE_S:
        one.wrong.append(f"gone only after {one.ended.gone_s:.1f} s")
    one.trials, one.rows = search.trials(), search.rows()
    if (search.run / "winner").exists():  # it is whole whenever it is there
        one.wrong += incomplete(search.run / "winner")


def after_resume(search: Search, one: Round, resumed: Ended) -> None:
    """What the next process had to do again, and whether what was finished is still there."""
    if search.trials()[: len(one.trials)] != one.trials:
        one.wrong.append("a finished trial is gone")
    rows = search.rows()
    if any(rows.get(row) != ms for row, ms in one.rows.items()):
        one.wrong.append("a measured row of the table is gone")
    for title in one.ended.titles:
        kind = next((kind for kind in MOST if title.startswith(kind)), None)
        before, after = one.ended.steps(title), resumed.steps(title)
        if kind is None or not after:
            continue
        lost = before[-1] - after[0] + 1
        if kind == "latency table":  # counted anew in each process: the rows that were kept are not measured again
            lost = before[-1] + after[-1] - len(search.rows()) if len(search.rows()) else 0
        if lost <= 0:
            continue
        unit = "rows" if kind == "latency table" else "steps"
        one.lost[unit] = one.lost.get(unit, 0) + lost
        most = MOST[kind] if one.signal == signal.SIGKILL else 0
        if lost > most:
            one.wrong.append(f"lost {lost:g} {unit} of {title}, at most {most} may be")


def at_the_end(search: Search, one: Round, unbroken: Search) -> None:
    """Every trial once, the study as trials.jsonl has it, a whole winner, and the unbroken search's one."""
    trials, study = search.trials(), search.study()
    evaluated = [json.dumps(trial["architecture"]) for trial in trials if trial["state"] in ("complete", "failed")]
    if len(evaluated) != len(set(evaluated)):
        one.wrong.append("a network was evaluated twice")
    if len({trial["number"] for trial in trials}) != len(trials):
        one.wrong.append("two trials have one number")
    for trial in trials:
        if study.get(trial["number"]) != STATES[trial["state"]]:
            one.wrong.append(f"trial {trial['number']} is {trial['state']}, in study.db {study.get(trial['number'])}")
    one.wrong += incomplete(search.run / "winner")
    if not (search.run / "report.html").exists():
        one.wrong.append("no report.html")
    if search.table is not None:
        one.wrong += differences(search, unbroken)


def differences(search: Search, unbroken: Search) -> list[str]:
    """What a search whose latencies are given has otherwise than the unbroken one."""
    wrong = [
        f"{file} is not the unbroken search's" for file in (
            "checkpoints/supernet.safetensors", "winner/weights.safetensors", "winner/architecture.yaml",
        ) if (search.run / file).read_bytes() != (unbroken.run / file).read_bytes()
    ]  # fmt: skip
    if _results(search) != _results(unbroken):
        wrong.append("the trials are not the unbroken search's")
    return wrong


def _results(search: Search) -> list[dict[str, Any]]:
    """The evaluated trials, whatever number they have: one that was cut off gets another."""
    kept = ("architecture", "accuracy", "latency_ms", "reward", "state")
    trials = [trial for trial in search.trials() if trial["state"] == "complete"]
    return sorted(({key: trial[key] for key in kept} for trial in trials), key=json.dumps)


def incomplete(winner: Path) -> list[str]:
    """What a folder lacks that exists: it is whole, and its weights are those of its checksum."""
    missing = FILES - {path.name for path in winner.iterdir()}
    if missing:
        return [f"winner/ lacks {', '.join(sorted(missing))}"]
    load_model(winner)
    json.loads((winner / "metrics.json").read_text())
    return []
