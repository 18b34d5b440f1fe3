"""Tries inputs at an entrance: each is accepted or refused with one line, in time."""

from __future__ import annotations

import logging
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from mnas.errors import MnasError

from .entrances import Entrance

DEADLINE_S = 10
"""For one input."""


class Hangs(BaseException):
    """An input takes longer than DEADLINE_S; no handler of Exception catches it."""


@dataclass
class Tried:
    """What became of the inputs of one entrance."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    """Where an error that is none of mnas came from -> its traceback."""
    slowest_s: float = 0.0
    seconds: float = 0.0
    grown_mb: float = 0.0
    """Peak memory of the process above what it had at the beginning."""


def tried(entrance: Entrance, inputs: int, start: int = 0) -> Tried:
    """Try so many inputs, the same ones for the same `start`."""
    found, began, before = Tried(), time.monotonic(), _peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / entrance.file

        @seed(start)
        @settings(
            max_examples=inputs, database=None, deadline=None, phases=[Phase.generate], derandomize=False,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(entrance.contents)
        def try_one(content: bytes) -> None:
            path.write_bytes(content)
            _try(entrance, path, found)

        level = logging.getLogger("mnas").level
        logging.getLogger("mnas").setLevel(logging.CRITICAL)
        try:
            try_one()
        finally:
            logging.getLogger("mnas").setLevel(level)
    found.seconds, found.grown_mb = time.monotonic() - began, _peak_mb() - before
    return found


def _try(entrance: Entrance, path: Path, found: Tried) -> None:
    began = time.monotonic()
    found.inputs += 1
    try:
        with _deadline():
            entrance.read(path)
        found.accepted += 1
    except MnasError as error:
        assert "\n" not in str(error)
        found.refused += 1
    except (Hangs, Exception) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__} in {place.filename.rpartition('mnas/')[2]}:{place.lineno}"
        found.faults.setdefault(name, f"{traceback.format_exc()}\n{path.read_bytes()[:2000]!r}")
    found.slowest_s = max(found.slowest_s, time.monotonic() - began)


@contextmanager
def _deadline() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(DEADLINE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
