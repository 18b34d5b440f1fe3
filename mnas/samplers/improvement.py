"""Acquisition functions: expected improvement of a value, improvement of a front's hypervolume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mnas.samplers.pareto import hypervolume, nondominated

Floats = NDArray[np.float64]


def log_expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """log E[max(0, value - best)] (n,) of normal values; finite also where the chance is tiny (arXiv 2310.20708)."""
    z = (mean - best) / deviation
    far = z < -5
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.log(np.exp(log_density) + z * ndtr(z), where=~far, out=np.zeros_like(z))
    tail = log_density - 2 * np.log(np.where(far, -z, 1.0))
    return np.log(deviation) + np.where(far, tail, near)


def hypervolume_improvement(points: Floats, front: Floats, reference: Floats) -> Floats:
    """Hypervolume (n,) that each point (n, objectives) alone adds to `front`; all objectives are maximised."""
    if points.shape[1] != 2:  # the box of each point, less the part of it that the front dominates
        boxes = np.prod(np.clip(points - reference, 0, None), axis=1)
        return np.array([
            box - hypervolume(np.minimum(front, point), reference) if box > 0 else 0.0
            for box, point in zip(boxes, points, strict=True)
        ])  # fmt: skip
    front = front[(front > reference).all(1)]
    front = front[nondominated(front)]
    front = front[np.argsort(front[:, 0])]
    # strips of the first objective: in each, everything up to the front's height is dominated
    left = np.concatenate([reference[:1], front[:, 0]])
    right = np.append(front[:, 0], np.inf)
    height = np.append(front[:, 1], reference[1])
    width = np.clip(np.minimum(points[:, :1], right) - left, 0, None)
    return (width * np.clip(points[:, 1:] - height, 0, None)).sum(1)
