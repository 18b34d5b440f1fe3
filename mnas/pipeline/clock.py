"""The time that a run takes, over all its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mnas.run import Run


def now() -> float:
    """Seconds on the clock that all deadlines use."""
    return time.monotonic()


class RunClock:
    """Counts the seconds of a run from where its earlier processes stopped."""

    def __init__(self, run: Run):
        self._run = run
        self._began = now() - run.state().elapsed_s

    def elapsed_s(self) -> float:
        """Seconds that the run has taken so far, in all its processes."""
        return now() - self._began

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save the count at the end of the block, also where it fails."""
        try:
            yield
        except BaseException:
            with suppress(OSError):  # the error on its way says more
                self.save()
            raise
        self.save()

    def save(self) -> None:
        """Keep the count in the run's state."""
        self._run.update_state(elapsed_s=round(self.elapsed_s(), 1))


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 8 min, 2 h 10 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
