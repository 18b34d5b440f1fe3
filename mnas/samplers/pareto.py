"""Pareto dominance: nondominated points, NSGA-II's order, hypervolume. All objectives are maximised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def nondominated(values: Floats) -> NDArray[np.bool_]:
    """Mask (n,) of the rows of `values` (n, objectives) that no other row dominates; equal rows all count."""
    if values.shape[1] == 2:
        return _nondominated_pairs(values)
    at_least = np.all(values[None] >= values[:, None], axis=2)
    above = np.any(values[None] > values[:, None], axis=2)
    return ~np.any(at_least & above, axis=1)


def _nondominated_pairs(values: Floats) -> NDArray[np.bool_]:
    """The same for two objectives, in n log n steps: from the best first objective down, the second one has to rise."""
    unique, inverse = np.unique(values, axis=0, return_inverse=True)
    second = unique[::-1, 1]
    rises = np.ones(len(second), dtype=bool)
    rises[1:] = second[1:] > np.maximum.accumulate(second)[:-1]
    return np.asarray(rises[::-1][inverse.ravel()])


def ranks(values: Floats) -> NDArray[np.int64]:
    """Rank (n,) of each row of `values` (n, objectives), 0 the best: by front, then the less crowded first."""
    rank = np.empty(len(values), dtype=np.int64)
    if values.shape[1] == 1:
        rank[np.argsort(-values[:, 0], kind="stable")] = np.arange(len(values))
        return rank
    remaining, next_rank = np.arange(len(values)), 0
    while len(remaining):
        in_front = nondominated(values[remaining])
        front = remaining[in_front]
        by_crowding = np.argsort(-crowding_distance(values[front]), kind="stable")
        rank[front[by_crowding]] = next_rank + np.arange(len(front))
        next_rank += len(front)
        remaining = remaining[~in_front]
    return rank


def crowding_distance(front: Floats) -> Floats:
    """NSGA-II's crowding distance (n,) of the points of one front (n, objectives) (Deb et al. 2002)."""
    distance = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def hypervolume(values: Floats, reference: Floats) -> float:
    """Volume that `values` (n, objectives) dominate above the point `reference` (objectives,)."""
    values = values[(values > reference).all(1)]
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max() - reference[0])
    values = values[nondominated(values)]
    order = values[np.argsort(-values[:, -1])]
    # slices along the last objective, from the best value down
    floors = np.append(order[1:, -1], reference[-1])
    return sum(
        (order[i, -1] - floors[i]) * hypervolume(order[: i + 1, :-1], reference[:-1])
        for i in range(len(order)) if order[i, -1] > floors[i]
    )  # fmt: skip
