"""Processes that share a study, started quickly: what they run, and how a test starts them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
from small_study import accuracy, problem_of, tiny_space

from mnas.estimators import Report
from mnas.run import Run
from mnas.samplers import make_sampler
from mnas.space.architecture import Architecture
from mnas.study.database import PatientStorage, open_storage
from mnas.study.schedule import Schedule
from mnas.study.shared import POLL_S, Evaluator, SharedStudy

HEARTBEAT_S, PATIENCE_S = 1, 30.0
NAME = "flowers"
BUDGETS_MS = (1.2,)
"""Most of the networks keep it."""


class Slow:
    """An estimator that takes some time, reports twice, and writes down which process evaluated what."""

    fidelity, images = "counted", 400

    def __init__(self, notes: Path, seconds: float = 0.0):
        self.notes, self.seconds = notes, seconds

    def __call__(self, arch: Architecture, report: Report) -> float:
        with self.notes.open("a") as file:
            file.write(f"{arch.id}\n")
        for step in (1, 2):
            time.sleep(self.seconds / 2)
            report(step, accuracy(arch) * step / 2)
        return accuracy(arch)


_opened: list[PatientStorage] = []


def opened(url: str, patience_s: float = PATIENCE_S) -> PatientStorage:
    _opened.append(open_storage(url, heartbeat_s=HEARTBEAT_S, patience_s=patience_s))
    return _opened[-1]


def close_all() -> None:
    """Close what this process opened."""
    while _opened:
        _opened.pop().close()


def main_process(url: str, run: Run, **options: Any) -> SharedStudy:
    """The study as its main process has it."""
    sampler = make_sampler("predictor", 0)
    return SharedStudy(run, problem_of(tiny_space(), budgets_ms=BUDGETS_MS), sampler, storage=opened(url), **options)


def work(url: str, notes: Path, seconds: float, ready: Barrier | None = None) -> None:
    """What a worker does, until it is ended: take a ticket, evaluate, tell."""
    if ready is not None:
        ready.wait()
    storage = opened(url)
    while NAME not in {study.study_name for study in storage.get_all_studies()}:
        time.sleep(POLL_S)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name=NAME, storage=storage, sampler=make_sampler("predictor", 1))
    evaluator = Evaluator(study, storage, problem_of(tiny_space(), budgets_ms=BUDGETS_MS), Slow(notes, seconds))
    while True:
        if evaluator.evaluate_next() is None:
            time.sleep(POLL_S)


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["mnas.study.shared", "mnas.samplers.predictor"])


@contextmanager
def workers(
    count: int, url: str, notes: Path, seconds: float = 0.0, at_once: bool = False
) -> Iterator[list[multiprocessing.process.BaseProcess]]:
    """So many workers, killed with the block."""
    ready = _context.Barrier(count) if at_once else None
    started = [_context.Process(target=work, args=(url, notes, seconds, ready), daemon=True) for _ in range(count)]
    for process in started:
        process.start()
    try:
        yield list(started)
    finally:
        for process in started:
            process.kill()
            process.join()


def schedule(trials: int) -> Schedule:
    return Schedule(trials)
