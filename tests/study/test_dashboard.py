"""optuna-dashboard opens the study of a run, and shows which trials are feasible."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from small_study import Counting, problem_of, tiny_space

from mnas.run import Run
from mnas.samplers import make_sampler
from mnas.study.schedule import Schedule
from mnas.study.study import Study

DASHBOARD = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent)) or shutil.which("optuna-dashboard")


def answer(url: str, seconds: float = 30) -> Any:
    """The JSON at a URL, as soon as something listens there."""
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@pytest.mark.skipif(DASHBOARD is None, reason="not installed: pip install optuna-dashboard")
def test_the_dashboard_shows_the_trials(tmp_path: Path) -> None:
    assert DASHBOARD is not None
    run, problem = Run(tmp_path / "run"), problem_of(tiny_space())
    run.folder.mkdir()
    study = Study(run, problem, make_sampler("random", 0))
    study.optimize(Counting(), Schedule(6))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [DASHBOARD, f"sqlite:///{run.folder / 'study.db'}", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            (listed,) = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
            shown = answer(f"http://127.0.0.1:{port}/api/studies/{listed['study_id']}?after=0")["trials"]
        finally:
            process.terminate()
    by_number = {trial["number"]: trial for trial in shown}
    assert sorted(by_number) == [trial.number for trial in study.trials]
    assert {trial.state for trial in study.trials} > {"complete"}
    for trial in study.trials:
        attributes = {one["key"]: one["value"] for one in by_number[trial.number]["user_attrs"]}
        assert attributes == {"feasible": str(problem.allows(trial.architecture))}
        if trial.state == "complete":
            assert by_number[trial.number]["values"] == [pytest.approx(trial.reward)]
