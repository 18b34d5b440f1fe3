"""How certain a figure is that is no mean over images: the jackknife by groups of images (Wolter 2007, chapter 4).

Each group's pseudo-value is n times the figure of all images less n - 1 times that of all others. Their mean is about
the figure, and they may be treated as if they were n independent measurements of it. So two networks are compared by
the differences of their pseudo-values on the same groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 40


def groups_of(images: int) -> int:
    """The number of groups of so many images; image `row` is in group `row % groups`."""
    return min(images, MOST_GROUPS)


def pseudo_values(whole: float, without: Sequence[float]) -> NDArray[np.float64]:
    """From the figure of all images, and those without each of the groups, (groups,)."""
    n = len(without)
    return n * whole - (n - 1) * np.asarray(without, np.float64)


def variance_of_mean(values: NDArray[np.float64]) -> float:
    """The variance of the mean of pseudo-values (groups,), or of their differences; infinite for fewer than two."""
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else math.inf
