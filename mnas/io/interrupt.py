"""Ctrl-C and SIGTERM: a training finishes its step and is kept before the process ends; a second one ends it at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""The exit code of a process that was interrupted."""
GRACE_S = 10
"""Seconds after which a step is no longer waited for: schedulers kill a process 20 to 30 s after SIGTERM."""

TOGETHER_S = 0.5
"""Signals that come within so many seconds are one: torchrun and timeout pass on what a terminal sends to all too."""

_asked = False  # whether this process has been asked to end
_stepping = False  # whether that waits for the end of a step


def listen(leave: Callable[[], None] = lambda: None) -> None:
    """Treat SIGTERM, with which schedulers and torchrun end a process, like Ctrl-C, from now on.

    The first signal raises KeyboardInterrupt, in a training after its current step; the second one calls `leave` and
    ends the process. Ctrl-C stays ignored where it was, as in a shell's background jobs.
    """
    global _asked
    own_pid, _asked, first = os.getpid(), False, 0.0

    def ask(number: int, frame: Any) -> None:
        global _asked
        nonlocal first
        if os.getpid() != own_pid:  # a data loader's worker, which has nothing to keep
            os._exit(128 + number)
        if _asked and time.monotonic() - first < TOGETHER_S:
            return
        if _asked:
            leave()
            os._exit(INTERRUPTED)
        _asked, first = True, time.monotonic()
        if not _stepping:
            raise KeyboardInterrupt
        if hasattr(signal, "alarm"):
            signal.signal(signal.SIGALRM, give_up)
            signal.alarm(GRACE_S)

    def give_up(number: int, frame: Any) -> None:
        if os.getpid() == own_pid and _stepping:
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, ask)


def asked() -> bool:
    """Whether a signal asks this process to end: the caller keeps what it has, then calls `stop_if_asked`."""
    return _asked


def stop_if_asked() -> None:
    """Raise the KeyboardInterrupt that a block of `finishing_steps` has put off."""
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def finishing_steps(alone: bool = True) -> Iterator[None]:
    """Put an interruption off in the block, which looks for it after each step; it comes at the block's end, at latest.

    Not where several processes train together, `alone` False: they would wait for each other.
    """
    global _stepping
    _stepping = alone
    try:
        yield
    finally:
        _stepping = False
    stop_if_asked()
