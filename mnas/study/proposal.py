"""One proposal: asked of Optuna, pruned while it is evaluated, finished as a trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial

from mnas.estimators import Estimate
from mnas.space.architecture import Architecture
from mnas.study.optuna_log import experimental_features
from mnas.study.problem import Problem
from mnas.study.trial import Evaluation, Trial


class Proposal(NamedTuple):
    """A network that Optuna proposed."""

    trial: optuna.trial.Trial
    architecture: Architecture
    latency_ms: float
    reported: int = -1
    """Last step that was reported before the run was stopped."""


def ask(study: optuna.Study, problem: Problem, unfinished: FrozenTrial | None = None) -> Proposal:
    """The study's next proposal, or an `unfinished` one again."""
    trial = study.ask() if unfinished is None else optuna.trial.Trial(study, unfinished._trial_id)
    reported = max(unfinished.intermediate_values, default=-1) if unfinished else -1
    return proposed(trial, problem)._replace(reported=reported)


def proposed(trial: optuna.trial.Trial, problem: Problem) -> Proposal:
    """What a trial proposes; the sampler learns how far it violates budget and constraints."""
    with experimental_features():
        arch = problem.space.suggest(trial)
    latency_ms = problem.latency(arch)
    violations = problem.violations(arch, latency_ms)
    for name in violations.keys() - trial.constraints.keys():  # one that is run again has them
        trial.set_constraint(name, violations[name])
    if violations:  # optuna-dashboard shows no such constraint, but a column for each attribute
        trial.set_user_attr("feasible", all(violation <= 0 for violation in violations.values()))
    return Proposal(trial, arch, latency_ms)


def pruner(proposal: Proposal, problem: Problem, may_prune: bool = True) -> Callable[[int, float], bool]:
    """Reports the accuracy after each step to Optuna; True ends the estimate. A front is never pruned."""

    def prune(step: int, accuracy: float) -> bool:
        reward = problem.reward(accuracy, proposal.latency_ms)
        if reward is None or step < proposal.reported:  # it went on at that step
            return False
        if step > proposal.reported:
            proposal.trial.report(reward, step)
        return may_prune and proposal.trial.should_prune()

    return prune


def evaluated_trial(proposal: Proposal, estimate: Estimate, problem: Problem, name: str = "") -> Trial:
    """The trial of a proposal that was evaluated."""
    latency_ms, accuracy = proposal.latency_ms, estimate.accuracy
    reward = None if accuracy is None else problem.reward(accuracy, latency_ms)
    evaluation = Evaluation(estimate.fidelity, estimate.seconds, estimate.curve, estimate.images, estimate.error)
    number, arch = proposal.trial.number, proposal.architecture
    return Trial(number, estimate.state, arch, latency_ms, accuracy, reward, name, evaluation)


def unevaluated_trial(proposal: Proposal, earlier: Trial | None, name: str = "") -> Trial:
    """The trial of a proposal that an earlier trial evaluated, or that may not be evaluated."""
    number, arch, latency_ms = proposal.trial.number, proposal.architecture, proposal.latency_ms
    if earlier is None:
        return Trial(number, "over_budget", arch, latency_ms, name=name)
    evaluation = Evaluation(earlier.fidelity, images=earlier.evaluation.images)
    return Trial(number, "repeated", arch, latency_ms, earlier.accuracy, earlier.reward, name, evaluation)
