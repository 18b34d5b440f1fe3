"""Rewards and rankings by hand-checked numbers, the front and its area against plain twins."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnas.config import Objective, load_objective
from mnas.errors import BadInput
from mnas.io.presets import preset_names
from mnas.study.objective import directions, front, hypervolume, knee, ranking_key, reward, values

points = st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 50)), min_size=1, max_size=30)


def test_presets() -> None:
    assert preset_names("objectives") == ["mnasnet", "mnasnet_hard", "pareto", "tunas"]
    for name in preset_names("objectives"):
        assert load_objective(name).name == name


@pytest.mark.parametrize(
    ("name", "accuracy", "latency_ms", "expected"),
    [
        # at the budget every formula gives the accuracy
        ("mnasnet", 0.75, 15.0, 0.75),
        ("mnasnet_hard", 0.75, 15.0, 0.75),
        ("tunas", 0.75, 15.0, 0.75),
        # 0.75 * 2 ** -0.07 = 0.75 * 0.95264: twice the latency costs about 5%
        ("mnasnet", 0.75, 30.0, 0.714479),
        ("mnasnet", 0.75, 7.5, 0.787287),
        ("mnasnet_hard", 0.75, 7.5, 0.75),
        ("mnasnet_hard", 0.75, 30.0, 0.375),
        ("tunas", 0.75, 30.0, 0.65),
        ("tunas", 0.75, 7.5, 0.70),
    ],
)
def test_rewards(name: str, accuracy: float, latency_ms: float, expected: float) -> None:
    assert reward(load_objective(name), accuracy, latency_ms, 15.0) == pytest.approx(expected, abs=1e-6)


# (accuracy, latency in ms); the budget is 10 ms
FAST, MIDDLE, SLOW, OVER = (0.70, 3.0), (0.72, 6.0), (0.74, 9.5), (0.75, 10.4)


@pytest.mark.parametrize(
    ("name", "networks", "expected"),
    [
        # accuracy alone; equal accuracies: the faster one first
        ("mnasnet_hard", [FAST, MIDDLE, SLOW], [SLOW, MIDDLE, FAST]),
        ("mnasnet_hard", [(0.7, 7.0), (0.7, 5.0), (0.7, 6.0)], [(0.7, 5.0), (0.7, 6.0), (0.7, 7.0)]),
        # 0.70 * 0.3 ** -0.07 = 0.7616, 0.72 * 0.6 ** -0.07 = 0.7462, 0.74 * 0.95 ** -0.07 = 0.7427
        ("mnasnet", [SLOW, MIDDLE, FAST], [FAST, MIDDLE, SLOW]),
        # 0.70 - 0.07, 0.72 - 0.04, 0.74 - 0.005
        ("tunas", [FAST, MIDDLE, SLOW], [SLOW, MIDDLE, FAST]),
        # 0.70 - 0.07 < 0.69 - 0.01
        ("tunas", [FAST, (0.69, 9.0)], [(0.69, 9.0), FAST]),
        # a predicted latency a little above the budget counts as the budget: a measurement decides
        ("mnasnet_hard", [SLOW, OVER], [OVER, SLOW]),
        ("tunas", [SLOW, OVER], [OVER, SLOW]),
        # a front has no reward
        ("pareto", [FAST, SLOW, MIDDLE], [SLOW, MIDDLE, FAST]),
    ],
)
def test_ranking_within_a_budget(
    name: str, networks: list[tuple[float, float]], expected: list[tuple[float, float]]
) -> None:
    objective = load_objective(name)
    assert sorted(networks, key=lambda network: ranking_key(objective, *network, 10.0), reverse=True) == expected


@given(points, st.sampled_from(["mnasnet", "mnasnet_hard", "tunas"]))
def test_the_best_within_a_budget_has_the_largest_reward(networks: list[tuple[float, float]], name: str) -> None:
    objective = load_objective(name)
    best = max(networks, key=lambda network: ranking_key(objective, *network, 50.0))
    assert reward(objective, *best, 50.0) == max(reward(objective, *network, 50.0) for network in networks)


def test_without_a_budget_accuracy_ranks() -> None:
    assert ranking_key(load_objective("pareto"), 0.8, 5.0, None) == (0.8, -5.0)


def test_pareto_has_two_values() -> None:
    pareto = load_objective("pareto")
    assert directions(pareto) == ["maximize", "minimize"]
    assert values(pareto, 0.9, 12.0, None) == [0.9, 12.0]
    with pytest.raises(BadInput, match="pareto"):
        reward(pareto, 0.9, 12.0, 15.0)


@given(points)
def test_front_is_what_nothing_beats(seen: list[tuple[float, float]]) -> None:
    def beaten(a: tuple[float, float]) -> bool:
        return any(b != a and b[0] >= a[0] and b[1] <= a[1] for b in seen)

    assert front(seen) == sorted({a for a in seen if not beaten(a)}, key=lambda point: point[1])


def test_hypervolume_by_hand() -> None:
    # 0.5 from 2 ms on, 0.8 from 6 ms on, of 10 ms: (0.5 * 8 + 0.3 * 4) / 10
    assert hypervolume([(0.5, 2.0), (0.8, 6.0), (0.4, 7.0)], 10.0) == pytest.approx(0.52)
    assert hypervolume([], 10.0) == 0
    assert hypervolume([(0.9, 11.0)], 10.0) == 0


@given(points, st.tuples(st.floats(0, 1), st.floats(0.1, 50)))
def test_hypervolume_never_shrinks(seen: list[tuple[float, float]], new: tuple[float, float]) -> None:
    before, after = hypervolume(seen, 50.0), hypervolume([*seen, new], 50.0)
    assert before - 1e-12 <= after <= 1


def test_knee() -> None:
    assert knee([(0.1, 1.0), (0.8, 2.0), (0.9, 10.0)]) == (0.8, 2.0)
    assert knee([(0.5, 3.0)]) == (0.5, 3.0)


def test_file_of_ones_own(tmp_path: object) -> None:
    path = tmp_path / "mine.yaml"  # type: ignore[operator]
    path.write_text("name: mine\nformula: mnasnet\nalpha: -0.15\nbeta: -0.15\n")
    assert load_objective(path) == Objective(name="mine", formula="mnasnet", alpha=-0.15, beta=-0.15)
    assert math.isclose(reward(load_objective(str(path)), 0.6, 20.0, 10.0), 0.6 * 2**-0.15)


def test_unknown_objective_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"'mnasnt'.*'mnasnet'"):
        load_objective("mnasnt")
