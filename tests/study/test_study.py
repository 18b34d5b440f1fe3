"""The study, with estimators that cost nothing: what is asked, evaluated, told and written."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from mnas.errors import BadInput
from mnas.estimators import Report
from mnas.monitor.tensorboard import TensorBoard
from mnas.run import Run
from mnas.samplers import SAMPLERS, make_sampler
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.space import SearchSpace, load_space
from mnas.study.constraints import Limit, Limits
from mnas.study.objective import load_objective
from mnas.study.study import Goal, Study
from mnas.study.trial import Trial
from mnas.training.loop import Diverged


def milliseconds(arch: Architecture) -> float:
    return cost(arch, 10).madds / 1e6


def accuracy(arch: Architecture) -> float:
    """Larger is better, with a little of its own for each network."""
    return min(0.99, 0.5 + cost(arch, 10).madds / 4e6 + random.Random(arch.id).random() / 50)


class Counting:
    """An estimator that remembers what it was asked."""

    def __init__(self, of: Callable[[Architecture], float] = accuracy):
        self.of, self.asked = of, list[Architecture]()
        self.fidelity = ""

    def __call__(self, arch: Architecture, report: Report) -> float:
        self.asked.append(arch)
        self.fidelity = "guessed"
        for step in (1, 2, 3):
            report(step, self.of(arch) * step / 3)
        self.fidelity = "counted"
        return self.of(arch)


@pytest.fixture
def make(tiny: Path, tmp_path: Path) -> Callable[..., Study]:
    def study(
        objective: str = "mnasnet", budget_ms: float | None = 0.6, sampler: Any = "tpe",
        space: SearchSpace | None = None, **options: Any,
    ) -> Study:  # fmt: skip
        run = Run(tmp_path / "run")
        run.folder.mkdir(exist_ok=True)
        made = make_sampler(sampler, 0) if isinstance(sampler, str) else sampler
        board = TensorBoard(run.tensorboard)
        board.close()  # leaves no open file behind; it opens again when written to
        return Study(
            run, space or load_space(tiny), Goal(load_objective(objective), budget_ms), sampler=made, storage=None,
            seed=0, latency=milliseconds, num_classes=10, board=board, slowest_ms=2.0,
            fastest=(space or load_space(tiny)).argmin(milliseconds), **options,
        )  # fmt: skip

    return study


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler(make: Callable[..., Study], sampler: str) -> None:
    estimator, study = Counting(), make(sampler=sampler)
    study.optimize(estimator, trials=14, deadline=None)
    assert study.evaluated == 14
    assert len(set(estimator.asked)) == 14, "equal architectures are evaluated once"
    assert all(milliseconds(arch) <= 0.6 * 1.05 for arch in estimator.asked), "nothing is spent on what is too slow"
    best = study.best()
    assert best is not None
    assert best.latency_ms <= 0.6


@pytest.mark.parametrize("objective", ["mnasnet", "mnasnet_hard", "tunas", "pareto"])
def test_each_objective(make: Callable[..., Study], objective: str) -> None:
    study = make(objective=objective)
    study.optimize(Counting(), trials=12, deadline=None)
    complete = [trial for trial in study.trials if trial.state == "complete"]
    assert all((trial.reward is None) == (objective == "pareto") for trial in complete)
    assert study.front() == sorted(study.front(), key=lambda point: point[1])


def test_any_sampler_of_optuna(make: Callable[..., Study]) -> None:
    study = make(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(Counting(), trials=5, deadline=None)
    assert study.evaluated == 5


def test_reference_networks_come_first(make: Callable[..., Study]) -> None:
    space = load_space("v3_small").with_resolutions((32, 64))
    study = make(space=space, budget_ms=100.0)
    study.optimize(Counting(lambda arch: 0.5), trials=3, deadline=None)
    assert [trial.name for trial in study.trials[:2]] == ["mobilenet_v3_small", "mobilenet_v3_small/32"]
    assert study.trials[2].name == ""


def test_a_small_space_is_searched_to_its_end(make: Callable[..., Study]) -> None:
    space = load_space("v1").with_resolutions((32, 64))
    estimator = Counting(lambda arch: 0.5)
    study = make(space=space, budget_ms=None, objective="pareto", sampler="random")
    study.optimize(estimator, trials=None, deadline=None)
    assert len(set(estimator.asked)) == len(estimator.asked) == space.size == 14


def test_pruning_spares_the_hopeless(make: Callable[..., Study]) -> None:
    study = make(budget_ms=3.0, sampler="random", objective="mnasnet_hard")
    study.optimize(Counting(), trials=40, deadline=None)
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.curve) < 3 and trial.accuracy == trial.curve[-1] for trial in pruned)
    best = study.best()
    assert best is not None
    assert best.state == "complete"


def test_a_front_is_not_pruned(make: Callable[..., Study]) -> None:
    study = make(objective="pareto", sampler="random")
    study.optimize(Counting(), trials=20, deadline=None)
    assert {trial.state for trial in study.trials} <= {"complete", "repeated", "over_budget"}


def test_a_diverged_candidate_is_recorded_and_the_rest_goes_on(make: Callable[..., Study]) -> None:
    def diverging(arch: Architecture) -> float:
        if len(estimator.asked) == 2:
            raise Diverged("the loss is nan")
        return 0.5

    study, estimator = make(), Counting(diverging)
    study.optimize(estimator, trials=4, deadline=None)
    states = [trial.state for trial in study.trials if trial.evaluated]
    assert states == ["complete", "failed", "complete", "complete"]


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1, "high", None])
def test_an_estimator_must_give_an_accuracy(make: Callable[..., Study], value: Any) -> None:
    with pytest.raises(BadInput, match="expected an accuracy as a number from 0 to 1"):
        make().optimize(lambda arch, report: value, trials=1, deadline=None)


def test_callbacks_see_every_trial(make: Callable[..., Study]) -> None:
    seen: list[Trial] = []
    study = make(callbacks=[seen.append])
    study.optimize(Counting(), trials=4, deadline=None)
    assert seen == study.trials


def test_trials_survive_as_json(make: Callable[..., Study]) -> None:
    study = make()
    study.optimize(Counting(), trials=4, deadline=None)
    assert [Trial.from_json(record) for record in study.run.read_trials()] == study.trials


class Killed(BaseException):
    """Stands for a signal that ends the process."""


class Dying(Counting):
    """Is killed during its sixth estimate."""

    def __call__(self, arch: Architecture, report: Report) -> float:
        if len(self.asked) == 5:
            raise Killed
        return super().__call__(arch, report)


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("moment", ["estimate", "before tell", "after tell"])
def test_killed_and_resumed(
    make: Callable[..., Study], moment: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, dying, estimator = make(), Dying() if moment == "estimate" else Counting(), Counting()
    if moment != "estimate":
        tell = first._tell

        def cut(trial: Trial) -> None:
            if moment == "after tell":
                tell(trial)
            if first.evaluated == 5:
                raise Killed
            if moment == "before tell":
                tell(trial)

        monkeypatch.setattr(first, "_tell", cut)
    with pytest.raises(Killed):
        first.optimize(dying, trials=10, deadline=None, at_once=at_once)
    kept = first.run.read_trials()
    written = {Trial.from_json(record).architecture for record in kept if Trial.from_json(record).evaluated}

    second = make()
    assert [trial.to_json() for trial in second.trials] == [Trial.from_json(record).to_json() for record in kept]
    assert not second._study.get_trials(states=(TrialState.RUNNING,)), "nothing stays half done"
    second.optimize(estimator, trials=10, deadline=None, at_once=at_once)
    assert second.evaluated == 10
    assert len(set(estimator.asked)) == len(estimator.asked) == 10 - len(written)
    assert not written & set(estimator.asked), "what was written is not run again"
    assert len(written) >= 4


def test_several_are_asked_for_before_any_is_told(make: Callable[..., Study]) -> None:
    study, estimator, standing = make(budget_ms=3.0), Counting(), list[int]()
    known = study.trials

    def counting(arch: Architecture) -> float:
        standing.append(sum(trial.evaluated for trial in known))
        return accuracy(arch)

    estimator.of = counting
    study.optimize(estimator, trials=11, deadline=None, at_once=4)
    assert study.evaluated == len(estimator.asked) == len(set(estimator.asked)) == 11
    assert sorted(set(standing))[:2] == [0, 4]
    assert [trial.number for trial in study.trials] == sorted(trial.number for trial in study.trials)
    assert not study._study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


@pytest.mark.parametrize("at_once", [1, 5])
def test_a_trial_says_how_its_accuracy_was_found(make: Callable[..., Study], at_once: int) -> None:
    study = make(budget_ms=3.0, sampler="random", objective="mnasnet_hard")
    study.optimize(Counting(), trials=40, deadline=None, at_once=at_once)
    grades = {"complete": "counted", "pruned": "guessed"}
    assert {trial.state for trial in study.trials if trial.evaluated} == set(grades)
    for trial in study.trials:
        if trial.evaluated:
            assert trial.fidelity == grades[trial.state]
        elif trial.state == "repeated":
            same = next(one for one in study.trials if one.evaluated and one.architecture == trial.architecture)
            assert (trial.fidelity, trial.accuracy) == (same.fidelity, same.accuracy)
        else:
            assert trial.fidelity == ""
    assert [record["grade"] for record in study.run.read_trials()] == [trial.fidelity for trial in study.trials]


def test_a_study_lost_with_the_power_is_made_again(make: Callable[..., Study]) -> None:
    first, estimator = make(), Counting()
    first.optimize(estimator, trials=5, deadline=None)
    for path in first.run.folder.glob("study.db*"):
        path.unlink()
    second = make()
    assert len(second._study.get_trials()) == max(trial.number for trial in first.trials) + 1
    second.optimize(estimator, trials=8, deadline=None)
    assert len(set(estimator.asked)) == len(estimator.asked) == 8
    assert len({trial.number for trial in second.trials}) == len(second.trials)


def test_a_moved_folder_goes_on(make: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().optimize(Counting(), trials=3, deadline=None)
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / "run")
    second = make()
    assert second._study.study_name == "mnas"
    assert len(second._study.get_trials()) >= 3


def test_the_fastest_network_is_evaluated_where_little_else_keeps_the_budget(make: Callable[..., Study]) -> None:
    study = make(budget_ms=0.23)
    assert milliseconds(study._fastest) <= 0.23
    study.optimize(Counting(), trials=3, deadline=None)
    best = study.best()
    assert best is not None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_spent_on_what_breaks_a_limit(make: Callable[..., Study], tiny: Path, sampler: str) -> None:
    counts = sorted(cost(arch, 10).params for arch in load_space(tiny).enumerate())
    limits = Limits((Limit("--max-params", counts[len(counts) // 4], lambda counted: counted.params),), 10)
    estimator = Counting()
    study = make(sampler=sampler, budget_ms=3.0, limits=limits)
    study.optimize(estimator, trials=10, deadline=None)
    assert len(estimator.asked) == 10
    assert all(limits.keeps(arch) for arch in estimator.asked)
    assert {trial.state for trial in study.trials if not limits.keeps(trial.architecture)} <= {"over_budget"}


def test_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="unknown sampler 'nsga'; did you mean 'nsga2'"):
        make_sampler("nsga", 0)
