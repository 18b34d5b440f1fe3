"""A proposal's constraints, its pruner, and the trial that it becomes."""

from __future__ import annotations

import random

import optuna
import pytest
from small_study import at_most_params, problem_of, tiny_space

from mnas.estimators import Estimate
from mnas.study.problem import Problem
from mnas.study.proposal import Proposal, ask, evaluated_trial, pruner, unevaluated_trial

PRUNE_ALL = optuna.pruners.ThresholdPruner(lower=1e9)


def proposal_of(problem: Problem) -> tuple[optuna.Study, Proposal]:
    study = optuna.create_study(
        directions=["maximize"], sampler=optuna.samplers.RandomSampler(seed=0), pruner=PRUNE_ALL
    )
    return study, ask(study, problem)


def test_the_sampler_learns_the_violations() -> None:
    problem = problem_of(tiny_space(), budgets_ms=(0.4,), constraints=at_most_params(tiny_space(), 0.3))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    kinds = set()
    for _ in range(12):
        proposal = ask(study, problem)
        violations = problem.violations(proposal.architecture, proposal.latency_ms)
        assert set(violations) == {"latency", "limits"}
        assert problem.allows(proposal.architecture) == all(value <= 0 for value in violations.values())
        frozen = study.get_trials()[proposal.trial.number]
        assert all(value in str(frozen.system_attrs) for value in map(str, violations.values()))
        assert frozen.user_attrs == {"feasible": problem.allows(proposal.architecture)}
        kinds.add(problem.allows(proposal.architecture))
    assert kinds == {True, False}


def test_a_proposal_without_limits_has_no_constraint() -> None:
    problem = problem_of(tiny_space(), "pareto", budgets_ms=())
    assert problem.violations(problem.fastest, 1.0) == {}


@pytest.mark.parametrize(("objective", "may_prune", "ends"), [
    ("mnasnet", True, True), ("mnasnet", False, False), ("pareto", True, False),
])  # fmt: skip
def test_pruning(objective: str, may_prune: bool, ends: bool) -> None:
    problem = problem_of(tiny_space(), objective)
    study, proposal = proposal_of(problem)
    assert pruner(proposal, problem, may_prune)(3, 0.5) == ends
    reported = study.get_trials()[0].intermediate_values
    assert reported == ({} if objective == "pareto" else {3: problem.reward(0.5, proposal.latency_ms)})


def test_trials_of_a_proposal() -> None:
    problem = problem_of(tiny_space())
    arch = tiny_space().sample(random.Random(0))
    first, second = (Proposal(optuna.create_study().ask(), arch, 0.3) for _ in range(2))
    estimate = Estimate("complete", 0.75, "trained", (0.5, 0.75), 2.0)
    trial = evaluated_trial(first, estimate, problem, "reference")
    assert (trial.state, trial.accuracy, trial.reward) == ("complete", 0.75, problem.reward(0.75, 0.3))
    assert (trial.name, trial.fidelity, trial.curve, trial.seconds) == ("reference", "trained", (0.5, 0.75), 2.0)
    again = unevaluated_trial(second, trial)
    assert (again.state, again.accuracy, again.reward, again.fidelity) == ("repeated", 0.75, trial.reward, "trained")
    assert (again.seconds, again.curve) == (0.0, ())
    assert unevaluated_trial(second, None).state == "over_budget"
    failed = evaluated_trial(first, Estimate("failed", None, "trained", (), 1.0), problem)
    assert (failed.state, failed.reward) == ("failed", None)
