"""Acquisition functions against random draws."""

from __future__ import annotations

import numpy as np
import pytest

from mnas.samplers.improvement import hypervolume_improvement, log_expected_improvement
from mnas.samplers.pareto import hypervolume


def test_expected_improvement_is_what_draws_improve() -> None:
    rng = np.random.default_rng(0)
    mean, deviation = np.array([0.0, 1.0, -1.0, 0.5]), np.array([1.0, 0.5, 2.0, 0.01])
    drawn = np.maximum(0, rng.normal(mean, deviation, (400_000, 4)) - 0.6).mean(0)
    found = np.exp(log_expected_improvement(mean, deviation, 0.6))
    assert found[:3] == pytest.approx(drawn[:3], rel=0.02)
    far = log_expected_improvement(np.array([-40.0, -50.0]), np.ones(2), 0.0)
    assert np.isfinite(far).all() and far[0] > far[1]


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_improvement_is_the_difference_of_two_hypervolumes(objectives: int) -> None:
    rng, reference = np.random.default_rng(objectives), np.zeros(objectives)
    front, points = rng.random((12, objectives)), rng.random((6, objectives)) * 1.2
    with_point = [hypervolume(np.vstack([front, point]), reference) for point in points]
    expected = np.array(with_point) - hypervolume(front, reference)
    assert hypervolume_improvement(points, front, reference) == pytest.approx(expected)
