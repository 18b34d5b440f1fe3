"""Dominance, ranks and hypervolume against plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnas.samplers.pareto import crowding_distance, hypervolume, nondominated, ranks


def test_ranks() -> None:
    values = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [0.5, 0.5], [1.0, 1.0]])
    place = ranks(values)
    assert set(place[:3]) == {0, 1, 2} and place[2] == 2, "the middle of the front is less lonely than its ends"
    assert place[4] == 3 and place[3] == 4
    assert ranks(np.array([[1.0], [3.0], [2.0]])).tolist() == [2, 0, 1]


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_is_the_part_of_the_box_below(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    values, box = rng.random((12, objectives)), rng.random((200_000, objectives))
    below = np.any(np.all(box[:, None] <= values[None], axis=2), axis=1).mean()
    assert hypervolume(values, np.zeros(objectives)) == pytest.approx(below, abs=0.005)


def dominated(values: np.ndarray, row: np.ndarray) -> bool:
    return any((other >= row).all() and (other > row).any() for other in values)


@given(st.integers(1, 3).flatmap(
    lambda n: st.lists(st.tuples(*[st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0])] * n), max_size=12)
))  # fmt: skip
def test_nondominated_is_what_no_row_dominates(rows: list[tuple[float, ...]]) -> None:
    values = np.array(rows, dtype=float).reshape(len(rows), -1 if rows else 2)
    assert nondominated(values).tolist() == [not dominated(values, row) for row in values]


def test_crowding_distance_by_hand() -> None:
    """Of three points on a line, the middle one has neighbours a whole range apart in both objectives."""
    front = np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])
    assert crowding_distance(front).tolist() == [np.inf, 2.0, np.inf]


def test_hypervolume_by_hand() -> None:
    """0.5 * 8 + 0.3 * 4; points at or below the reference add nothing."""
    values = np.array([[0.5, -2.0], [0.8, -6.0], [0.4, -7.0], [0.0, -1.0]])
    assert hypervolume(values, np.array([0.0, -10.0])) == pytest.approx(5.2)
    assert hypervolume(values[:0], np.array([0.0, -10.0])) == 0
