"""optuna-dashboard opens the study of a run, and shows which trials are feasible."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnas import Result

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
def test_the_dashboard_shows_the_trials(search: Callable[..., Result]) -> None:
    assert DASHBOARD is not None
    result = search()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [DASHBOARD, f"sqlite:///{result.folder / 'study.db'}", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            (study,) = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
            shown = answer(f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0")["trials"]
        finally:
            process.terminate()
    assert [trial["number"] for trial in shown] == [trial.number for trial in result.trials]
    by_number = {trial["number"]: trial for trial in shown}
    for trial in result.trials:
        attributes = {one["key"]: json.loads(one["value"]) for one in by_number[trial.number]["user_attrs"]}
        assert attributes["feasible"] == (trial.latency_ms <= 0.6 * 1.05)
        if trial.state == "complete":
            assert by_number[trial.number]["values"] == [pytest.approx(trial.reward)]
