"""Which networks may be evaluated, and which trial is the best."""

from __future__ import annotations

import math

from small_study import at_most_params, milliseconds, problem_of, tiny_space

import mnas
from mnas.study.trial import Trial

ARCH = mnas.zoo.get("mobilenet_v3_small", 1.0, 32)


def test_a_network_is_allowed_below_the_cutoff_and_within_constraints() -> None:
    constraints = at_most_params(tiny_space(), 0.5)
    problem = problem_of(tiny_space(), budgets_ms=(0.2, 0.4), constraints=constraints)
    assert (problem.budget_ms, problem.cutoff_ms) == (0.4, 0.4 * problem.objective.evaluate_up_to)
    archs = list(tiny_space().enumerate())
    allowed = [arch for arch in archs if problem.allows(arch)]
    expected = [a for a in archs if milliseconds(a) <= problem.cutoff_ms and constraints.satisfied_by(a)]
    assert allowed == expected
    assert 0 < len(allowed) < len(archs)


def test_without_a_budget_every_latency_is_allowed() -> None:
    problem = problem_of(tiny_space(), "pareto", budgets_ms=())
    assert (problem.budget_ms, problem.cutoff_ms) == (None, math.inf)
    assert (problem.values(0.5, 3.0), problem.reward(0.5, 3.0)) == ([0.5, 3.0], None)


def test_the_objective_decides_which_trial_is_best() -> None:
    # at 10 ms: 0.70 * 0.3 ** -0.07 = 0.7616, 0.74 * 0.95 ** -0.07 = 0.7427
    points = [(0.70, 3.0), (0.74, 9.5), (0.99, 11.0)]
    trials = [Trial(number, "complete", ARCH, ms, accuracy) for number, (accuracy, ms) in enumerate(points)]
    trials.append(Trial(3, "pruned", ARCH, 1.0, 0.99))
    for objective, number in (("mnasnet", 0), ("mnasnet_hard", 1), ("tunas", 1), ("pareto", 1)):
        best = problem_of(tiny_space(), objective, budgets_ms=(10.0,)).best(trials)
        assert best is not None
        assert best.number == number
    assert problem_of(tiny_space(), budgets_ms=(1.0,)).best(trials) is None
