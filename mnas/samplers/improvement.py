"""How much a point may improve on what is known: expected improvement, and that of a front's hypervolume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

def log_expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """log E[max(0, value - best)] of normal values, to be maximised; finite also where the chance is tiny."""
    z = (mean - best) / deviation
    far = z < -5
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.log(np.exp(log_density) + z * ndtr(z), where=~far, out=np.zeros_like(z))
    tail = log_density - 2 * np.log(np.where(far, -z, 1.0))
    return np.log(deviation) + np.where(far, tail, near)


def nondominated(values: Floats) -> NDArray[np.bool_]:
    """(n, objectives), all to be maximised -> which of the n no other one beats; of equal ones all."""
    as_good = np.all(values[None] >= values[:, None], axis=2)
    better = np.any(values[None] > values[:, None], axis=2)
    return ~np.any(as_good & better, axis=1)


def ranks(values: Floats) -> NDArray[np.int64]:
    """(n, objectives), all to be maximised -> each one's place, from 0: fronts first, then the lonelier ones first."""
    place = np.empty(len(values), dtype=np.int64)
    if values.shape[1] == 1:
        place[np.argsort(-values[:, 0], kind="stable")] = np.arange(len(values))
        return place
    left, given = np.arange(len(values)), 0
    while len(left):
        first = nondominated(values[left])
        front = left[first]
        for index in np.argsort(-_distance(values[front]), kind="stable"):
            place[front[index]] = given
            given += 1
        left = left[~first]
    return place


def _distance(front: Floats) -> Floats:
    """NSGA-II's crowding distance (Deb et al. 2002)."""
    found = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        found[order[[0, -1]]] = np.inf
        if span > 0:
            found[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return found


def hypervolume(values: Floats, reference: Floats) -> float:
    """The volume that the values (n, objectives), all to be maximised, dominate above the reference."""
    values = values[(values > reference).all(1)]
    if not len(values):
        return 0.0
    values = values[nondominated(values)]
    order = values[np.argsort(-values[:, -1])]
    if values.shape[1] == 1:
        return float(order[0, 0] - reference[0])
    # slices along the last objective, from the best one down
    floors = np.append(order[1:, -1], reference[-1])
    return sum(
        (order[i, -1] - floors[i]) * hypervolume(order[: i + 1, :-1], reference[:-1])
        for i in range(len(order)) if order[i, -1] > floors[i]
    )  # fmt: skip


def hypervolume_improvement(points: Floats, front: Floats, reference: Floats) -> Floats:
    """What each point alone (n, objectives) adds to the hypervolume of `front`; all to be maximised."""
    if points.shape[1] != 2:  # the box of each point, less what of it the front dominates
        boxes = np.prod(np.clip(points - reference, 0, None), axis=1)
        return np.array([
            box - hypervolume(np.minimum(front, point), reference) if box > 0 else 0.0
            for box, point in zip(boxes, points, strict=True)
        ])  # fmt: skip
    front = front[(front > reference).all(1)]
    front = front[nondominated(front)]
    front = front[np.argsort(front[:, 0])]
    # strips of the first objective: in each, all up to the front's height is dominated
    left = np.concatenate([reference[:1], front[:, 0]])
    right = np.append(front[:, 0], np.inf)
    height = np.append(front[:, 1], reference[1])
    width = np.clip(np.minimum(points[:, :1], right) - left, 0, None)
    return (width * np.clip(points[:, 1:] - height, 0, None)).sum(1)
