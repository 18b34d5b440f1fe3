"""Progress and log on stderr, and the log file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mnas.monitor import console
from mnas.monitor.console import log_file, progress


def test_log_file(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    log = logging.getLogger("mnas")
    handlers, level = list(log.handlers), log.level
    with log_file(path):
        logging.getLogger("mnas.data").warning("broken image")
        log.info("trial 1")
    log.info("afterwards")
    text = path.read_text()
    assert "broken image" in text
    assert "trial 1" in text
    assert "afterwards" not in text
    assert (log.handlers, log.level) == (handlers, level)


def test_progress_ends_with_its_block(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="stop"), progress("work", 10) as task:
        task.update(3, 10, "three")
        raise ValueError("stop")
    assert capsys.readouterr().out == "", "stdout is for results"


def test_without_a_terminal_progress_is_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, "mnas"), progress("work", 10) as task:
        task.update(1, 10, "one")
        assert not caplog.records, "too early for a line"
        monkeypatch.setattr(console, "LINE_EVERY_S", -1.0)
        task.update(5, 10)
    (record,) = caplog.records
    assert record.getMessage().startswith("work 50%, one")


def test_the_time_left_is_that_of_what_is_done_now(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on at 800 of 1,000 steps, of which 10 take 2 s."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console, "LINE_EVERY_S", -1.0)
    with caplog.at_level(logging.INFO, "mnas"), progress("work", 1000) as task:
        for step in (800, 810, 900):
            task.update(step, 1000)
            now[0] += 2 if step == 800 else 18
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["work 80%", "work 81%, 38 s left", "work 90%, 20 s left"]


def test_the_console_shows_the_log_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("mnas")
    monkeypatch.setattr(log, "handlers", [])
    level = log.level
    try:
        console.log_to_console()
        console.log_to_console()
        log.info("one line [with brackets]")
        log.warning("look out")
    finally:
        log.setLevel(level)
    assert len(log.handlers) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["one line [with brackets]", "warning: look out"]
    assert captured.out == ""
