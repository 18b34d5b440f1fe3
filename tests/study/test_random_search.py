"""As many random networks as the search evaluated: drawn uniformly, kept over a kill."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_study import Counting, at_most_params, problem_of, tiny_space

from mnas.errors import MnasError
from mnas.monitor.tensorboard import TensorBoard
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.failures import FAILURES
from mnas.study.problem import Problem
from mnas.study.random_search import random_networks, random_search
from mnas.study.schedule import Schedule
from mnas.study.storage import written_trials
from mnas.study.trial import Trial
from mnas.training.loop import Diverged


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of(tiny_space(), constraints=at_most_params(tiny_space(), 0.7))


class Draw:
    """A random search in a folder of its own."""

    def __init__(self, run: Run, problem: Problem):
        self.run, self.problem, self.board = run, problem, TensorBoard(run.tensorboard)
        self.board.close()

    def __call__(self, estimator: Counting, trials: int = 8, seed: int = 0, **options: Any) -> list[Trial]:
        callbacks = options.pop("callbacks", ())
        schedule = Schedule(trials, **options)
        return random_search(
            self.problem, estimator, schedule, run=self.run, board=self.board, seed=seed, callbacks=callbacks
        )


@pytest.fixture
def draw(tmp_path: Path, problem: Problem) -> Draw:
    return Draw(Run(tmp_path), problem)


def test_as_many_as_asked_for_and_all_may_be_evaluated(draw: Draw, problem: Problem) -> None:
    estimator, seen = Counting(), list[Trial]()
    trials = draw(estimator, at_once=5, callbacks=[seen.append])
    assert len(trials) == len(set(estimator.evaluated)) == 8
    assert all(problem.allows(trial.architecture) for trial in trials)
    assert seen == trials
    assert [trial.number for trial in trials] == list(range(8))
    assert {(trial.state, trial.fidelity) for trial in trials} == {("complete", "counted")}
    assert written_trials(draw.run, draw.run.random_trials_path) == trials
    assert not draw.run.read_trials(), "the search's own are left alone"


def test_killed_and_resumed(draw: Draw) -> None:
    whole, again = draw(Counting()), Counting()
    path = draw.run.random_trials_path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    assert [trial.architecture for trial in draw(again)] == [trial.architecture for trial in whole]
    assert again.evaluated == [trial.architecture for trial in whole[5:]]


def test_another_seed_draws_others(problem: Problem) -> None:
    first, second = (set(random_networks(problem, [], 8, seed, Schedule())) for seed in (0, 1))
    assert first != second


def test_a_space_without_more_networks(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnas.study.random_search.MAX_DRAWS", 4000)
    few = {arch for arch in tiny_space().enumerate() if arch.resolution == 32 and sum(map(len, arch.stages)) == 3}
    allowed = set(sorted(few, key=lambda arch: arch.id)[:3])
    draw.problem = replace(draw.problem, latency=lambda arch: 0.1 if arch in allowed else 9.0)
    assert {trial.architecture for trial in draw(Counting())} == allowed


def test_a_deadline_is_kept_where_latencies_are_slow(draw: Draw) -> None:
    def slow(arch: Architecture) -> float:
        time.sleep(0.05)
        return 9.0

    assert draw(Counting(), deadline=time.monotonic()) == []
    draw.problem = replace(draw.problem, latency=slow)
    began = time.monotonic()
    assert draw(Counting(), deadline=began + 0.5, at_once=4) == []
    assert time.monotonic() - began < 2


def test_repeated_failures_stop_it(draw: Draw) -> None:
    def diverging(arch: Architecture) -> float:
        raise Diverged("the loss is nan")

    with pytest.raises(MnasError, match="the loss is nan"):
        draw(Counting(diverging), trials=20)
    written = written_trials(draw.run, draw.run.random_trials_path)
    assert [trial.evaluation.error for trial in written] == ["the loss is nan"] * FAILURES
