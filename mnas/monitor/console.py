"""The console: a progress bar and the log, both on stderr."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mnas.errors import hide_passwords

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("mnas")

LINE_EVERY_S = 30.0
"""Seconds between two lines of progress where stderr is no terminal."""


class Progress:
    """Progress of one task on stderr: a bar on a terminal, elsewhere a log line now and then."""

    def __init__(self, title: str, total: float | None = None):
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = stderr_console()
        self._live = console.is_terminal
        self._logged = time.monotonic()
        self._first: tuple[float, float] | None = None  # when it was first shown, and what was done by then
        self._title, self._note = title, ""
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not self._live, transient=True,
        )
        self._task = self._bar.add_task(title, total=total, note="")
        self._bar.start()

    def update(self, completed: float, total: float | None = None, note: str | None = None) -> None:
        """Show `completed` of `total`, with a short note on the state of the task; None keeps the last note."""
        self._note = note = self._note if note is None else note
        if self._first is None:  # what goes on from a checkpoint did not do all of it just now
            self._first = time.monotonic(), completed
            self._bar.reset(self._task, completed=int(completed))
        self._bar.update(self._task, completed=completed, total=total, note=note)
        if not self._live and time.monotonic() - self._logged > LINE_EVERY_S:
            self._logged = time.monotonic()
            percent = f" {completed / total:.0%}" if total else ""
            began, done = self._first
            now = completed - done
            left_s = (self._logged - began) * (total - completed) / now if total and now > 0 else 0.0
            parts = [f"{self._title}{percent}", note, f"{left_s:.0f} s left" if left_s > 0 else ""]
            log.info(", ".join(filter(None, parts)))

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


@contextmanager
def progress(title: str, total: float | None = None) -> Iterator[Progress]:
    """The progress of a task for the length of the block."""
    task = Progress(title, total)
    try:
        yield task
    finally:
        task.close()


@functools.cache
def stderr_console() -> Console:
    """The console of both the log and the progress bar, so that neither breaks the other's lines."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        stderr_console().print(prefix + hide_passwords(self.format(record)), markup=False, highlight=False)


class _WithoutPasswords(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hide_passwords(super().format(record))


def log_to_console() -> None:
    """Show mnas's log on stderr until the process ends."""
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _ConsoleHandler) for handler in log.handlers):
        log.addHandler(_ConsoleHandler())


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk costs lines of the log; what must be kept says so itself."""


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write mnas's log to `path` as well, for the length of the block."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_WithoutPasswords("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(min(logging.INFO, level) if level else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        with suppress(OSError):
            handler.close()
        log.setLevel(level)
