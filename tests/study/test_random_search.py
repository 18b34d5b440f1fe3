"""As many random networks as the search evaluated: drawn fairly, kept over a kill, compared at equal numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mnas.estimators import Report
from mnas.monitor.tensorboard import TensorBoard
from mnas.run import Run
from mnas.samplers import make_sampler
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import load_space
from mnas.study.analysis import compared
from mnas.study.constraints import Limit, Limits
from mnas.study.objective import load_objective
from mnas.study.random_search import random_search
from mnas.study.study import Goal, Study
from mnas.study.trial import Trial


def milliseconds(arch: Architecture) -> float:
    return cost(arch, 10).madds / 1e6


class Counting:
    """An estimator that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked, self.fidelity = list[Architecture](), "counted"

    def __call__(self, arch: Architecture, report: Report) -> float:
        self.asked.append(arch)
        return min(0.99, 0.5 + milliseconds(arch) / 4)


@pytest.fixture
def study(tiny: Path, tmp_path: Path) -> Study:
    """One with twelve evaluations behind it."""
    run, space = Run(tmp_path / "run"), load_space(tiny)
    run.folder.mkdir()
    params = sorted(cost(arch, 10).params for arch in space.enumerate())[400]
    board = TensorBoard(run.tensorboard)
    board.close()
    made = Study(
        run, space, Goal(load_objective("mnasnet"), 0.6), sampler=make_sampler("random", 0), storage=None, seed=0,
        latency=milliseconds, num_classes=10, board=board, fastest=space.argmin(milliseconds), slowest_ms=2.0,
        limits=Limits((Limit("--max-params", params, lambda counted: counted.params),), 10),
    )  # fmt: skip
    made.optimize(Counting(), trials=12, deadline=None)
    return made


@pytest.fixture
def drawn(study: Study) -> Callable[..., list[Trial]]:
    def draw(estimator: Counting, seed: int = 0, **options: object) -> list[Trial]:
        return random_search(study, estimator, seed=seed, board=study._board, **options)  # type: ignore[arg-type]

    return draw


def test_as_many_as_the_search_and_all_may_be_evaluated(study: Study, drawn: Callable[..., list[Trial]]) -> None:
    estimator, seen = Counting(), list[Trial]()
    trials = drawn(estimator, at_once=5, callback=seen.append)
    assert len(trials) == len(set(estimator.asked)) == study.evaluated == 12
    assert all(study.may_be_evaluated(trial.architecture) for trial in trials)
    assert seen == trials
    assert [trial.number for trial in trials] == list(range(12))
    assert {(trial.state, trial.fidelity) for trial in trials} == {("complete", "counted")}
    assert [Trial.from_json(record) for record in study.run.read_trials(study.run.random_trials_path)] == trials
    assert len(study.run.read_trials()) == len(study.trials), "the search's own are left alone"


def test_killed_and_resumed(study: Study, drawn: Callable[..., list[Trial]]) -> None:
    whole, again = drawn(Counting()), Counting()
    path = study.run.random_trials_path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:7]))
    assert [trial.architecture for trial in drawn(again)] == [trial.architecture for trial in whole]
    assert again.asked == [trial.architecture for trial in whole[7:]]


def test_another_seed_draws_others(study: Study, drawn: Callable[..., list[Trial]]) -> None:
    first = drawn(Counting())
    study.run.random_trials_path.unlink()
    assert {t.architecture for t in drawn(Counting(), seed=1)} != {t.architecture for t in first}


def test_a_deadline_and_a_space_without_more(
    study: Study, drawn: Callable[..., list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert drawn(Counting(), deadline=time.monotonic()) == []
    plain = [arch for arch in study.space.enumerate() if arch.resolution == 32 and sum(map(len, arch.stages)) == 3]
    some = set(plain[:3])
    monkeypatch.setattr(study, "may_be_evaluated", some.__contains__)
    assert {trial.architecture for trial in drawn(Counting())} == some


def test_the_comparison_is_at_equal_numbers_and_within_the_budget(tiny: Path) -> None:
    arch = next(load_space(tiny).enumerate())

    def trials(*found: tuple[float, float]) -> list[Trial]:
        return [Trial(n, "complete", arch, ms, accuracy) for n, (accuracy, ms) in enumerate(found)]

    searched = [*trials((0.9, 9.0), (0.7, 4.0)), Trial(2, "over_budget", arch, 20.0), *trials((0.8, 5.0), (0.95, 5.0))]
    found = compared(searched, trials((0.6, 6.0), (0.5, 3.0), (0.55, 4.0)), 5.0)
    assert found == {
        "trials": 3, "best_accuracy": 0.55, "best_latency_ms": 4.0, "curve": [None, 0.5, 0.55],
        "search_best_accuracy": 0.8, "search_best_latency_ms": 5.0, "search_curve": [None, 0.7, 0.8],
    }  # fmt: skip
    assert compared(searched, [], 5.0)["best_accuracy"] is None
    assert compared(searched, trials((0.6, 99.0)), None)["search_best_accuracy"] == 0.9


def test_a_deadline_is_kept_where_latencies_are_slow(
    study: Study, drawn: Callable[..., list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(arch: Architecture) -> bool:
        time.sleep(0.05)
        return False

    monkeypatch.setattr(study, "may_be_evaluated", slow)
    began = time.monotonic()
    assert drawn(Counting(), deadline=began + 0.5, at_once=4) == []
    assert time.monotonic() - began < 2
