"""The loop, with estimators that cost nothing: what is asked, evaluated, told and written."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from small_study import Counting, accuracy, at_most_params, milliseconds, problem_of, tiny_space

from mnas.errors import BadInput, MnasError
from mnas.estimators import Report
from mnas.run import Run
from mnas.samplers import SAMPLERS, make_sampler
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space
from mnas.study.constraints import Constraints
from mnas.study.failures import FAILURES
from mnas.study.schedule import Schedule
from mnas.study.storage import tell, written_trials
from mnas.study.study import Study
from mnas.study.trial import Trial
from mnas.training.loop import Diverged

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def constraints() -> Constraints:
    return at_most_params(tiny_space(), 0.7)


@pytest.fixture
def make(tmp_path: Path) -> MakeStudy:
    def study(sampler: Any = "random", space: SearchSpace | None = None, **problem: Any) -> Study:
        run = Run(tmp_path / "run")
        run.folder.mkdir(exist_ok=True)
        made = make_sampler(sampler, 0) if isinstance(sampler, str) else sampler
        return Study(run, problem_of(space or tiny_space(), **problem), made)

    return study


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler(make: MakeStudy, constraints: Constraints, sampler: str) -> None:
    estimator, study = Counting(), make(sampler=sampler, constraints=constraints)
    study.optimize(estimator, Schedule(9))
    assert study.evaluated == 9
    assert len(set(estimator.evaluated)) == 9, "equal architectures are evaluated once"
    assert all(milliseconds(arch) <= 0.6 * 1.05 for arch in estimator.evaluated)
    assert all(constraints.satisfied_by(arch) for arch in estimator.evaluated)
    refused = {trial.state for trial in study.trials if not study.problem.allows(trial.architecture)}
    assert refused <= {"over_budget"}
    best = study.problem.best(study.trials)
    assert best is not None
    assert best.latency_ms <= 0.6


@pytest.mark.parametrize("objective", ["mnasnet", "mnasnet_hard", "tunas", "pareto"])
def test_each_objective(make: MakeStudy, objective: str) -> None:
    study = make(objective=objective)
    study.optimize(Counting(), Schedule(8))
    complete = [trial for trial in study.trials if trial.state == "complete"]
    assert all((trial.reward is None) == (objective == "pareto") for trial in complete)
    best = study.problem.best(study.trials)
    assert best is not None
    within = [trial for trial in complete if trial.latency_ms <= 0.6]
    if objective in ("mnasnet", "tunas"):
        assert best.reward == max(trial.reward or 0 for trial in within)
    else:
        assert best.accuracy == max(trial.accuracy or 0 for trial in within)


def test_any_sampler_of_optuna(make: MakeStudy) -> None:
    study = make(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(Counting(), Schedule(5))
    assert study.evaluated == 5


def test_reference_networks_come_first(make: MakeStudy) -> None:
    space = load_space("v3_small").with_resolutions((32, 64))
    study = make(space=space, budgets_ms=(100.0,))
    study.optimize(Counting(lambda arch: 0.5), Schedule(3))
    assert [trial.name for trial in study.trials[:2]] == ["mobilenet_v3_small", "mobilenet_v3_small/32"]
    assert study.trials[2].name == ""


def test_the_fastest_network_is_evaluated_where_few_networks_keep_the_budget(make: MakeStudy) -> None:
    study = make(budgets_ms=(0.23,))
    assert milliseconds(study.problem.fastest) <= 0.23
    study.optimize(Counting(), Schedule(3))
    assert study.problem.best(study.trials) is not None


def test_a_small_space_is_searched_to_its_end(make: MakeStudy) -> None:
    space = load_space("v1").with_resolutions((32, 64))
    estimator = Counting(lambda arch: 0.5)
    make(space=space, budgets_ms=(), objective="pareto").optimize(estimator, Schedule())
    assert len(set(estimator.evaluated)) == len(estimator.evaluated) == space.size == 14


def test_poor_candidates_are_pruned(make: MakeStudy) -> None:
    study = make(budgets_ms=(3.0,), objective="mnasnet_hard")
    study.optimize(Counting(), Schedule(40))
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.curve) < 3 and trial.accuracy == trial.curve[-1] for trial in pruned)
    best = study.problem.best(study.trials)
    assert best is not None
    assert best.state == "complete"


def test_a_front_is_not_pruned(make: MakeStudy) -> None:
    study = make(objective="pareto")
    study.optimize(Counting(), Schedule(15))
    assert {trial.state for trial in study.trials} <= {"complete", "repeated", "over_budget"}


def test_a_diverged_candidate_is_recorded_and_the_search_continues(make: MakeStudy) -> None:
    def diverging(arch: Architecture) -> float:
        if len(estimator.evaluated) == 2:
            raise Diverged("the loss is nan")
        return 0.5

    study, estimator = make(), Counting(diverging)
    study.optimize(estimator, Schedule(4))
    states = [trial.state for trial in study.trials if trial.evaluated]
    assert states == ["complete", "failed", "complete", "complete"]
    assert len(study._optuna.get_trials(states=(TrialState.FAIL,))) == 1


def out_of_memory(arch: Architecture) -> float:
    torch.empty(1 << 58)
    return 0.5


def out_of_python_memory(arch: Architecture) -> float:
    bytearray(1 << 60)
    return 0.5


@pytest.mark.parametrize(("fault", "cause"), [
    (out_of_memory, "out of memory"), (out_of_python_memory, "out of memory"), (lambda arch: float("nan"), "NaN"),
])  # fmt: skip
def test_a_faulty_candidate_fails_with_its_cause(
    make: MakeStudy, fault: Callable[[Architecture], float], cause: str
) -> None:
    study = make()
    estimator = Counting(lambda arch: fault(arch) if len(estimator.evaluated) == 2 else 0.5)
    study.optimize(estimator, Schedule(5))
    failed = [trial for trial in study.trials if trial.state == "failed"]
    assert len(failed) == 1
    assert cause in failed[0].evaluation.error
    assert cause in study.run.read_trials()[failed[0].number]["error"]
    assert written_trials(study.run) == study.trials
    assert study._optuna.trials[failed[0].number].user_attrs["error"] == failed[0].evaluation.error
    assert study.evaluated == 5


def test_repeated_failures_stop_the_search(make: MakeStudy) -> None:
    study = make()
    with pytest.raises(MnasError, match="out of memory") as stopped:
        study.optimize(Counting(out_of_memory), Schedule(40))
    assert stopped.value.exit_code == 2
    assert study.evaluated == FAILURES
    study.optimize(Counting(), Schedule(FAILURES + 3))
    assert study.evaluated == FAILURES + 3, "a later process tries again"


def test_other_errors_of_an_estimator_are_raised(make: MakeStudy) -> None:
    def broken(arch: Architecture) -> float:
        raise RuntimeError("a mistake in its code")

    with pytest.raises(RuntimeError, match="a mistake"):
        make().optimize(Counting(broken), Schedule(4))


@pytest.mark.parametrize("value", [1.5, -0.1, "high", None])
def test_an_estimator_must_give_an_accuracy(make: MakeStudy, value: Any) -> None:
    with pytest.raises(BadInput, match="0 to 1"):
        make().optimize(lambda arch, report: value, Schedule(1))


def test_callbacks_get_every_trial(make: MakeStudy) -> None:
    seen: list[Trial] = []
    study = make()
    study.optimize(Counting(), Schedule(4), [seen.append])
    assert seen == study.trials == written_trials(study.run)


class Killed(BaseException):
    """Stands for a signal that ends the process."""


class Dying(Counting):
    """Is killed during its seventh estimate, after a step."""

    def __call__(self, arch: Architecture, report: Report) -> float:
        if len(self.evaluated) == 6:
            self.fidelity = "guessed"
            report(1, self.accuracy(arch) / 3)
            raise Killed
        return super().__call__(arch, report)


def without_time(trials: list[Trial]) -> list[dict[str, Any]]:
    return [trial.to_json() | {"seconds": 0} for trial in trials]


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("moment", ["ask", "estimate", "before tell", "after tell"])
@pytest.mark.parametrize("sampler", ["tpe", "predictor"])
def test_a_killed_search_goes_on_as_if_it_had_not_stopped(
    make: MakeStudy, sampler: str, moment: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    schedule = Schedule(10, at_once=at_once)
    make = functools.partial(make, sampler, budgets_ms=(0.6 if sampler == "tpe" else 3.0,))
    unbroken = make()
    unbroken.optimize(Counting(), schedule)
    unbroken.run.folder.rename(tmp_path / "unbroken")

    first = make()
    dying, asked = Dying() if moment == "estimate" else Counting(), list[Any]()

    def killed_at_tell(study: optuna.Study, trial: Trial, values: list[float] | None) -> None:
        if moment == "after tell":
            tell(study, trial, values)
        if first.evaluated == 7:
            raise Killed
        if moment == "before tell":
            tell(study, trial, values)

    def killed_at_ask(trial: optuna.trial.Trial) -> Architecture:
        asked.append(trial)
        if len(asked) == 7:
            trial.suggest_categorical("resolution", list(tiny_space().resolutions))
            raise Killed
        return suggest(trial)

    suggest = first.problem.space.suggest
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "ask":
            patch.setattr(first.problem.space, "suggest", killed_at_ask)
        elif moment != "estimate":
            patch.setattr("mnas.study.study.tell", killed_at_tell)
        first.optimize(dying, schedule)
    kept = written_trials(first.run)
    written = {trial.architecture for trial in kept if trial.evaluated}

    second, estimator = make(), Counting()
    assert second.trials == kept
    second.optimize(estimator, schedule)
    assert without_time(second.trials) == without_time(unbroken.trials)
    assert len(estimator.evaluated) == 10 - len(written), "what was written is not run again"
    assert not second._optuna.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)), "nothing stays half done"


def test_a_batch_is_proposed_before_any_result_is_told(make: MakeStudy) -> None:
    study, estimator, finished = make(budgets_ms=(3.0,)), Counting(), list[int]()

    def counting(arch: Architecture) -> float:
        finished.append(study.evaluated)
        return accuracy(arch)

    estimator.accuracy = counting
    study.optimize(estimator, Schedule(11, at_once=4))
    assert study.evaluated == len(estimator.evaluated) == len(set(estimator.evaluated)) == 11
    assert sorted(set(finished))[:2] == [0, 4]
    assert [trial.number for trial in study.trials] == sorted(trial.number for trial in study.trials)
    assert not study._optuna.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


@pytest.mark.parametrize("at_once", [1, 5])
def test_trials_have_the_fidelity_of_their_estimate(make: MakeStudy, at_once: int) -> None:
    study = make(budgets_ms=(3.0,), objective="mnasnet_hard")
    study.optimize(Counting(), Schedule(40, at_once=at_once))
    fidelities = {"complete": "counted", "pruned": "guessed"}
    assert {trial.state for trial in study.trials if trial.evaluated} == set(fidelities)
    for trial in study.trials:
        if trial.evaluated:
            assert trial.fidelity == fidelities[trial.state]
        elif trial.state == "repeated":
            first = next(t for t in study.trials if t.evaluated and t.architecture == trial.architecture)
            assert (trial.fidelity, trial.accuracy) == (first.fidelity, first.accuracy)
        else:
            assert trial.fidelity == ""
    assert [record["grade"] for record in study.run.read_trials()] == [trial.fidelity for trial in study.trials]


def test_a_study_lost_with_the_power_is_made_again(make: MakeStudy) -> None:
    first, estimator = make(), Counting()
    first.optimize(estimator, Schedule(5))
    for path in first.run.folder.glob("study.db*"):
        path.unlink()
    second = make()
    assert len(second._optuna.get_trials()) == max(trial.number for trial in first.trials) + 1
    second.optimize(estimator, Schedule(8))
    assert len(set(estimator.evaluated)) == len(estimator.evaluated) == 8
    assert len({trial.number for trial in second.trials}) == len(second.trials)


def test_the_callers_optuna_verbosity_is_restored(make: MakeStudy, caplog: pytest.LogCaptureFixture) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.INFO, "optuna"):
            make().optimize(Counting(), Schedule(3))
        assert not [record for record in caplog.records if record.name.startswith("optuna")]
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(before)
