"""(accuracy, latency) -> reward and ranking, the Pareto front and its hypervolume."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mnas.config import Objective
from mnas.errors import BadInput
from mnas.samplers import pareto
from mnas.samplers.pareto import nondominated

Point = tuple[float, float]
"""(accuracy in 0..1, latency in ms)."""


def reward(objective: Objective, accuracy: float, latency_ms: float, budget_ms: float) -> float:
    """One number to maximise; BadInput for a front, which has none.

    mnasnet: ACC * (LAT / T)^w, w = alpha within the budget T, beta above it (arXiv 1807.11626).
    tunas: ACC + beta * |LAT / T - 1| (arXiv 2008.06120).
    """
    ratio = latency_ms / budget_ms
    if objective.formula == "mnasnet":
        return float(accuracy * ratio ** (objective.alpha if ratio <= 1 else objective.beta))
    if objective.formula == "tunas":
        return accuracy + objective.beta * abs(ratio - 1)
    raise BadInput(f"objective '{objective.name}': a Pareto front has no single reward")


def is_pareto(objective: Objective) -> bool:
    """Whether accuracy and latency stay two objectives."""
    return objective.formula == "pareto"


def directions(objective: Objective) -> list[str]:
    """Optuna's directions, one for each of `values`."""
    return ["maximize", "minimize"] if is_pareto(objective) else ["maximize"]


def values(objective: Objective, accuracy: float, latency_ms: float, budget_ms: float | None) -> list[float]:
    """The objective values for Optuna: the reward, or for a front accuracy and latency (ms)."""
    if is_pareto(objective):
        return [accuracy, latency_ms]
    assert budget_ms is not None
    return [reward(objective, accuracy, latency_ms, budget_ms)]


def ranking_key(
    objective: Objective, accuracy: float, latency_ms: float, budget_ms: float | None
) -> tuple[float, float]:
    """Sort key for networks within a budget, the largest is the best: the reward, then the lower latency.

    A front has no reward, and mnasnet_hard's is the accuracy within the budget: accuracy decides for both. A latency
    above the budget counts as the budget, since a measurement decides later whether the network keeps it.
    """
    if is_pareto(objective) or budget_ms is None:
        return accuracy, -latency_ms
    return reward(objective, accuracy, min(latency_ms, budget_ms), budget_ms), -latency_ms


def prefers_faster(objective: Objective) -> bool:
    """Whether the objective prefers the faster of two equally accurate networks by more than a tie-break."""
    return objective.formula == "tunas" or (objective.formula == "mnasnet" and objective.alpha != 0)


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other point dominates in accuracy and latency, from fast to slow."""
    unique = sorted(set(points), key=lambda point: point[1])
    return list(itertools.compress(unique, nondominated(_maximised(unique))))


def hypervolume(points: Iterable[Point], latency_limit: float) -> float:
    """Part (0..1) of the area accuracy 0..1 by latency 0..`latency_limit` (ms) that the points dominate."""
    return pareto.hypervolume(_maximised(points), np.array([0.0, -latency_limit])) / latency_limit


def _maximised(points: Iterable[Point]) -> NDArray[np.float64]:
    """Points as an array (n, 2) of two objectives to maximise."""
    return np.array([(accuracy, -latency_ms) for accuracy, latency_ms in points], dtype=np.float64).reshape(-1, 2)


def knee(points: Iterable[Point]) -> Point:
    """The front's point farthest above the line between its ends, both axes scaled to 0..1."""
    best = front(points)
    low, high = best[0], best[-1]
    if low == high:
        return low

    def height(point: Point) -> float:
        return (point[0] - low[0]) / (high[0] - low[0]) - (point[1] - low[1]) / (high[1] - low[1])

    return max(best, key=height)
