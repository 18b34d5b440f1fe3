"""(accuracy, latency) -> reward, the front of best compromises, and its hypervolume."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from mnas.config import Objective
from mnas.errors import BadInput
from mnas.io.presets import find_preset
from mnas.io.strict_yaml import load_yaml, validate

Point = tuple[float, float]
"""(accuracy in 0..1, latency in ms)."""
Ranking = Callable[[float, float], tuple[float, float]]


def load_objective(name: str | Path) -> Objective:
    """A shipped objective by name, or the path of a YAML file of one's own."""
    path = find_preset("objectives", name)
    return validate(Objective, load_yaml(path), str(path))


def reward(objective: Objective, accuracy: float, latency_ms: float, budget_ms: float) -> float:
    """One number to maximise.

    mnasnet: ACC * (LAT / T)^w, w = alpha within the budget T, beta above it (arXiv 1807.11626).
    tunas: ACC + beta * |LAT / T - 1| (arXiv 2008.06120).
    """
    ratio = latency_ms / budget_ms
    if objective.formula == "mnasnet":
        return float(accuracy * ratio ** (objective.alpha if ratio <= 1 else objective.beta))
    if objective.formula == "tunas":
        return accuracy + objective.beta * abs(ratio - 1)
    raise BadInput(f"objective '{objective.name}': a front has no single reward")


def is_pareto(objective: Objective) -> bool:
    """Whether accuracy and latency stay two objectives."""
    return objective.formula == "pareto"


def directions(objective: Objective) -> list[str]:
    """Optuna's directions, one for each value of `values`."""
    return ["maximize", "minimize"] if is_pareto(objective) else ["maximize"]


def values(objective: Objective, accuracy: float, latency_ms: float, budget_ms: float | None) -> list[float]:
    """What Optuna is told."""
    if is_pareto(objective):
        return [accuracy, latency_ms]
    assert budget_ms is not None
    return [reward(objective, accuracy, latency_ms, budget_ms)]


def ranking(objective: Objective, budget_ms: float | None) -> Ranking:
    """A key (accuracy, latency in ms) -> larger for the better of two networks that keep the budget.

    By the objective's reward, then the faster one; for a front, or without a budget, by accuracy.
    """

    def key(accuracy: float, latency_ms: float) -> tuple[float, float]:
        if budget_ms is None or is_pareto(objective):
            return accuracy, -latency_ms
        # within the budget: what a network saves or exceeds by noise does not change the formula's side
        return reward(objective, accuracy, min(latency_ms, budget_ms), budget_ms), -latency_ms

    return key


def prefers_faster(objective: Objective) -> bool:
    """Whether the objective prefers the faster of two equally accurate networks by more than a tie-break."""
    return objective.formula == "tunas" or (objective.formula == "mnasnet" and objective.alpha != 0)


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other point beats in accuracy and latency, from fast to slow."""
    best: list[Point] = []
    for accuracy, latency in sorted(set(points), key=lambda point: (point[1], -point[0])):
        if not best or accuracy > best[-1][0]:
            best.append((accuracy, latency))
    return best


def hypervolume(points: Iterable[Point], latency_limit: float) -> float:
    """The part (0..1) of the area accuracy 0..1 by latency 0..limit (ms) that the points dominate."""
    area, accuracy = 0.0, 0.0
    kept = [point for point in front(points) if point[1] < latency_limit]
    for reached, latency in kept:
        area += (reached - accuracy) * (latency_limit - latency)
        accuracy = reached
    return area / latency_limit


def knee(points: Iterable[Point]) -> Point:
    """The front's point farthest above the line between its ends, both axes scaled to 0..1."""
    ends = front(points)
    low, high = ends[0], ends[-1]
    if low == high:
        return low

    def height(point: Point) -> float:
        return (point[0] - low[0]) / (high[0] - low[0]) - (point[1] - low[1]) / (high[1] - low[1])

    return max(ends, key=height)
