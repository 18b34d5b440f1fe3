"""Whether one network is more accurate than another: the difference, its 95% interval, and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnas.metrics.jackknife import variance_of_mean
from mnas.tasks.classification import Metric
from mnas.training.judgement import Judgement

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How much more accurate one network is than another."""

    points: float
    """Percentage points; negative where the first one is worse."""
    half_width: float
    """Half the width of the 95% interval, in points."""

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out zero."""
        return abs(self.points) > self.half_width


def difference(
    first: Sequence[Judgement], second: Sequence[Judgement], metric: Metric = "accuracy"
) -> Difference:  # fmt: skip
    """How much more accurate the first network is, each judged once a seed on the same images.

    With one seed each it is about these two trained networks: of n images, n10 only the first gets right and n01 only
    the second. The difference is (n10 - n01) / n, its standard error that of McNemar's table with half an image added
    to each of the four cells (Agresti and Min 2005, doi 10.1002/sim.1781), as nothing is certain after a few images:
    sqrt(n10 + n01 + 1 - (n10 - n01)^2 / (n + 2)) / (n + 2).

    With several seeds it is about the architectures: the mean over the seeds, whose variance is the sum of

    - the images' part: that same formula, with each image's difference d averaged over the seeds: n10 + n01 becomes
      the sum of d^2, n10 - n01 the sum of d;
    - the seeds' part: for each network the variance of its accuracies over its seeds, divided by their number.

    The interval is Student's, with Welch's and Satterthwaite's degrees of freedom of the seeds' part, the images' part
    being known. What a seed changes on single images is in both parts, so that the interval is rather too wide than
    too narrow. A network of a single seed is taken to vary as the other one does. Where images could not be decoded
    for one of the networks, the judgements are not of the same images and are compared as independent samples.
    By the metric balanced each image's d is weighted so that classes count alike, and independent samples are drawn
    class by class.
    Raises ValueError for a network without judgements.
    """
    if not first or not second:
        raise ValueError("a difference is between two networks, each judged at least once")
    scores, others = ([_score(one, metric) for one in group] for group in (first, second))
    return _between(scores, others, (_images_variance(first, second, metric), math.inf))


class Scored(NamedTuple):
    """A network by a figure that is no mean over images, such as the mIoU."""

    values: Sequence[float]
    """One a seed (0..1)."""
    parts: NDArray[np.float64]
    """Pseudo-values by groups of images, (groups,), their mean over the seeds: see `mnas.metrics.jackknife`."""


def difference_of(first: Scored, second: Scored) -> Difference:
    """How much better the first network is by such a figure: as `difference`, but for the images' part.

    That is the variance of the mean of the differences in pseudo-values, with as many degrees of freedom as groups less
    one. Of images in two groups at least.
    """
    differs = first.parts - second.parts
    return _between(first.values, second.values, (variance_of_mean(differs), max(1, len(differs) - 1)))


def _between(first: Sequence[float], second: Sequence[float], images: tuple[float, float]) -> Difference:
    """The difference of two networks by their scores, one a seed; `images`: that part's variance, and its freedom."""
    from scipy.stats import t  # takes a second

    parts = [images, *_seeds_variances(first, second)]
    whole = sum(variance for variance, _ in parts)
    uncertain = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = whole**2 / uncertain if uncertain else math.inf
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(whole)
    return Difference(100 * float(np.mean(first) - np.mean(second)), 100 * half_width)


def _score(judgement: Judgement, metric: Metric) -> float:
    return judgement.balanced_accuracy if metric == "balanced" else judgement.accuracy


def _images_variance(first: Sequence[Judgement], second: Sequence[Judgement], metric: Metric) -> float:
    """The variance of the difference in accuracy that comes from the choice of the test images."""
    labels = first[0].labels
    if all(np.array_equal(one.labels, labels) for one in (*first, *second)):
        weights = first[0].class_weights if metric == "balanced" else 1.0
        by_image = weights * (_shares(first) - _shares(second))
        n = len(labels) + 2
        return float(np.sum(by_image**2) + 1 - np.sum(by_image) ** 2 / n) / n**2
    return sum(_own_variance(group, metric) for group in (first, second))


def _own_variance(group: Sequence[Judgement], metric: Metric) -> float:
    """The variance of one network's accuracy, on its own sample of images; half an image is added to each cell."""
    fewest = min(group, key=len)
    if metric == "balanced":
        counts = fewest.counts[fewest.counts > 0]
        shares = np.mean([one.recall[fewest.counts > 0] for one in group], axis=0)
    else:
        counts, shares = np.array([len(fewest)]), np.array([np.mean([one.accuracy for one in group])])
    n = counts + 2
    shares = (shares * counts + 1) / n
    return float(np.sum(shares * (1 - shares) / n)) / len(counts) ** 2


def _shares(judgements: Sequence[Judgement]) -> NDArray[np.float64]:
    """For each image, the share of the judgements in which it is classified correctly."""
    shares: NDArray[np.float64] = np.mean([one.correct for one in judgements], axis=0)
    return shares


def _seeds_variances(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, int]]:
    """The variances of the difference that come from seeds, with their degrees of freedom; none for one seed each."""
    variances = [(float(np.var(group, ddof=1)), len(group)) for group in (first, second) if len(group) > 1]
    if len(variances) == 1:  # the other network is taken to vary as this one does
        variance, count = variances[0]
        return [(variance / len(first) + variance / len(second), count - 1)]
    return [(variance / count, count - 1) for variance, count in variances]


def verdict_words(found: Difference, of: str = "") -> str:
    """'better by 0.9 +- 0.4 points', 'worse by ...' or 'can not be told apart (0.3 +- 0.9 points)'; `of` follows."""
    figures = _figures(found) + of
    if not found.told_apart:
        return f"can not be told apart ({figures})"
    return f"{'better' if found.points > 0 else 'worse'} by {figures.lstrip('-')}"


def _figures(found: Difference) -> str:
    """The difference with as many decimals, one or more, as it takes for the rounded figures to say the same."""
    for decimals in range(1, 6):
        points, half_width = round(found.points, decimals), round(found.half_width, decimals)
        if half_width > 0 and (abs(points) > half_width) == found.told_apart:
            break
    return f"{points + 0.0:.{decimals}f} +- {half_width:.{decimals}f} points"


# --- of a winner and its baselines


def verdicts(
    winner: Sequence[Judgement], baselines: Mapping[str, Sequence[Judgement]], metric: Metric = "accuracy"
) -> list[dict[str, Any]]:
    """The winner beside each baseline, as metrics.json holds it; the judgements are on the test split, one a seed."""
    rows = []
    for name, judgements in baselines.items():
        found = difference(winner, judgements, metric)
        by = " of balanced accuracy" if metric == "balanced" else ""
        rows.append({
            "baseline": name, "seeds": min(len(winner), len(judgements)), "metric": metric, "points": found.points,
            "half_width": found.half_width, "verdict": verdict_words(found, by),
        })  # fmt: skip
    return rows


def same_network(name: str, seeds: int, metric: str) -> dict[str, Any]:
    """The entry of a baseline that is the winner itself: the best reference may win the race."""
    return {
        "baseline": name, "seeds": seeds, "metric": metric, "points": 0.0, "half_width": None,
        "verdict": "the same network",
    }  # fmt: skip


def seed_facts(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """A network's accuracies (0..1) over its seeds, their mean and standard deviation (None for one seed)."""
    return {"accuracies": [one.accuracy for one in judgements], **_spread([one.accuracy for one in judgements])}


def seed_values(values: Sequence[float]) -> dict[str, Any]:
    """The same of another figure."""
    return {"values": list(values), **_spread(values)}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}
