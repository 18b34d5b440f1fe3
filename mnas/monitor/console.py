"""What a person sees of a run: TensorBoard, a progress bar, a log."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("mnas")








class Progress:
    """One line on stderr: what is done, what is left. On a terminal a bar; elsewhere a line now and then."""

    def __init__(self, title: str, total: float | None = None):
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = stderr_console()
        self._live = console.is_terminal
        self._began = self._said = time.monotonic()
        self._title, self._note = title, ""
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not self._live, transient=True,
        )
        self._task = self._bar.add_task(title, total=total, note="")
        self._bar.start()

    def update(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """`done` of `total`, with a few words about how it stands: the last ones, unless there are new ones."""
        self._note = note = self._note if note is None else note
        self._bar.update(self._task, completed=done, total=total, note=note)
        if not self._live and time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            part = f" {done / total:.0%}" if total else ""
            left = (self._said - self._began) * (total / done - 1) if total and done else 0.0
            said = [f"{self._title}{part}", note, f"{left:.0f} s left" if left > 0 else ""]
            log.info(", ".join(filter(None, said)))

    def close(self) -> None:
        self._bar.stop()


@contextmanager
def progress(title: str, total: float | None = None) -> Iterator[Progress]:
    """A progress line for the length of the block."""
    shown = Progress(title, total)
    try:
        yield shown
    finally:
        shown.close()


@functools.cache
def stderr_console() -> Console:
    """The one console that both the log and the progress bar write to, so that neither tears the other."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        stderr_console().print(prefix + self.format(record), markup=False, highlight=False)


def log_to_console() -> None:
    """Show what mnas logs on stderr, for the length of the process."""
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _ConsoleHandler) for handler in log.handlers):
        log.addHandler(_ConsoleHandler())


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Everything that mnas logs also goes to `path` for the length of the block."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(min(logging.INFO, level) if level else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(level)


