"""This machine while it measures: one process at a time, on pinned cores, with no more threads than usable cores."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from mnas.errors import BadInput
from mnas.io.files import user_cache
from mnas.latency.runtimes import Runtime
from mnas.latency.timing.quiet import Watch, pinned, usable_cores

log = logging.getLogger("mnas")

REST_S = 120.0
"""Seconds, at most and in all, for which the measurements of a process wait for others to leave them their cores."""
IDLE = 0.8
"""The part of a core that must be idle for each of its threads."""
LOOK_S = 0.3


def check_threads(threads: int) -> None:
    """BadInput where this process may use fewer cores than `threads`."""
    cores = usable_cores()
    if threads > cores:
        raise BadInput(
            f"--threads {threads}: latency is measured here, where mnas may use {cores} core{'s' * (cores != 1)}; "
            f"state --threads {cores} or fewer"
        )


@contextmanager
def exclusive() -> Iterator[None]:
    """Wait until no other mnas process of this user measures latency, and keep others waiting inside the block.

    Two measurements at once would spoil each other's times. May be entered again by the thread that is inside. Where
    the user's cache cannot be written, there is no waiting.
    """
    lock = _lock(str(user_cache("latency") / ".lock"))
    with contextlib.suppress(OSError):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("waiting for another process, which is measuring latency")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@functools.cache
def _lock(path: str) -> filelock.BaseFileLock:
    """The lock of a file: one object, so that it counts how often it was acquired; each thread has its own count."""
    return filelock.FileLock(path)


class Patience:
    """What is left of the time for which a process waits for rest: it is spent once, not before each measurement."""

    def __init__(self, seconds: float):
        self.left_s = seconds

    def await_rest(self, threads: int) -> None:
        """Wait until other processes leave `threads` cores idle, or patience is at its end."""
        said = False
        while self.left_s > 0:
            watch = Watch()
            time.sleep(LOOK_S)
            used, seconds = watch.others()
            if (os.cpu_count() or 1) - used >= IDLE * threads:
                break
            self.left_s -= seconds
            if not said:
                log.info(
                    "other processes use %.1f cores: waiting for them, for %.0f s at most, before latencies are "
                    "measured", used, self.left_s + seconds,
                )  # fmt: skip
                said = True
        if said:
            log.info("measuring now")


_patience = Patience(REST_S)


def await_rest(threads: int) -> None:
    """Wait until other processes leave `threads` cores idle, for REST_S at most in the life of this process."""
    _patience.await_rest(threads)


@contextmanager
def on_cores(threads: int) -> Iterator[None]:
    """Measure alone, pinned to `threads` cores; BadInput where fewer may be used."""
    check_threads(threads)
    with exclusive(), pinned(threads):
        yield


@contextmanager
def measuring(adapter: Runtime, threads: int) -> Iterator[None]:
    """`on_cores`, with `threads` threads for the runtime, and for PyTorch, which prepares what is timed.

    With 16 threads on one core, PyTorch took two seconds to copy a network.
    """
    import torch

    before = torch.get_num_threads()
    try:
        with on_cores(threads):
            torch.set_num_threads(threads)
            with adapter.threads(threads):
                yield
    finally:
        torch.set_num_threads(before)
