"""What a study's trials say of its choices: their options, which of them exist together, and points among them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial
from sklearn.tree import DecisionTreeClassifier

Points = NDArray[np.int64]
"""(n, choices): the index of each choice's option; ABSENT where a choice does not exist beside the others."""

ABSENT = -1
MOST_OPTIONS = 1000
"""An integer of more is no choice."""
ENUMERABLE = 10_000
"""Spaces of at most so many points are enumerated where random points are all known."""


@dataclass(frozen=True)
class Choice:
    """A categorical or integer parameter."""

    distribution: CategoricalDistribution | IntDistribution
    options: Sequence[Any]

    def index(self, option: Any) -> int:
        """Which one an option is; NaN is equal to NaN."""
        if isinstance(self.distribution, CategoricalDistribution):
            return int(self.distribution.to_internal_repr(option))
        return self.options.index(option)

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """Where the options lie on a line, in 0..1; None where they have no order."""
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in self.options):
            return None
        if not all(map(math.isfinite, self.options)):
            return None
        values = np.array(self.options, dtype=float)
        if isinstance(self.distribution, IntDistribution) and self.distribution.log:
            values = np.log(values)
        return (values - values.min()) / np.ptp(values)


def choice_of(distribution: BaseDistribution) -> Choice | None:
    """The choice that a parameter is; None for a float, and for an integer of too many options."""
    if isinstance(distribution, IntDistribution):
        step = 1 if distribution.log else distribution.step
        if (distribution.high - distribution.low) // step >= MOST_OPTIONS:
            return None
        options: Sequence[Any] = range(distribution.low, distribution.high + 1, step)
    elif isinstance(distribution, CategoricalDistribution):
        options = distribution.choices
    else:
        return None
    return Choice(distribution, options)


def _wider(one: IntDistribution, other: IntDistribution) -> IntDistribution:
    """The range of both."""
    several = [each for each in (one, other) if not each.single()]
    low, high = min(one.low, other.low), max(one.high, other.high)
    log = low > 0 and bool(several) and all(each.log for each in several)
    step = math.gcd(*(each.step for each in several), one.low - low, other.low - low) or 1
    return IntDistribution(low, high, log=log, step=1 if log else step)


class Choices:
    """The choices that trials were seen to have. A choice may exist only beside certain options of those before it.

    Which ones, decision trees learn from the trials.
    """

    def __init__(self) -> None:
        self.each: dict[str, Choice] = {}
        self._sizes = np.empty(0, dtype=np.int64)
        self.version = 0
        """Counts the changes of what choices and options there are: points of before mean nothing any more."""
        self._fixed: dict[str, Any] = {}
        self._others: set[str] = set()
        self._seen: dict[int, Mapping[str, Any]] = {}
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._trees: list[tuple[list[int], DecisionTreeClassifier]] = []
        self._all: Points | None = None

    # --- learning

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Take in the parameters of `trials`, of which it knows some."""
        new = [trial for trial in trials if trial.number not in self._seen and trial.params]
        before = self.version
        for trial in new:
            self._seen[trial.number] = trial.params
            self._add_choices(trial)
        if self.version > before:
            self._rows, self._all = {}, None
        rows = {number: self.row(params) for number, params in self._seen.items() if number not in self._rows}
        self._rows |= rows
        if rows:
            new_rows = np.stack(list(rows.values()))
            if self.version > before or (self._existing(np.maximum(new_rows, 0)) != new_rows).any():
                self._learn_existence(np.stack(list(self._rows.values())))

    def _add_choices(self, trial: FrozenTrial) -> None:
        """A new choice's place is behind the one that it followed."""
        names, after = list(self.each), 0
        for name, value in trial.params.items():
            if name in self._others:
                continue
            distribution = self._seen_of(name, value, trial.distributions[name])
            if name in self.each and distribution == self.each[name].distribution:
                after = names.index(name) + 1
                continue
            if distribution.single():
                self._fixed[name] = value
                continue
            self._fixed.pop(name, None)
            self.version += 1
            if name not in names:
                names.insert(after, name)
            after = names.index(name)
            if (choice := choice_of(distribution)) is None:
                self._others.add(name)
                names.remove(name)
            else:
                self.each[name] = choice
                after += 1
        self.each = {name: self.each[name] for name in names}
        self._sizes = np.array([len(choice.options) for choice in self.each.values()], dtype=np.int64)

    def _seen_of(self, name: str, value: Any, distribution: BaseDistribution) -> BaseDistribution:
        """Of an integer, all that trials had: ranges may differ, and what was enqueued may lie outside of them."""
        if isinstance(distribution, IntDistribution):
            for seen in (value, self._fixed.get(name, value)):
                distribution = _wider(distribution, IntDistribution(seen, seen))
            if name in self.each and isinstance(before := self.each[name].distribution, IntDistribution):
                distribution = _wider(distribution, before)
        return distribution

    def _learn_existence(self, rows: Points) -> None:
        groups: dict[bytes, list[int]] = {}
        for column in range(rows.shape[1]):
            groups.setdefault((rows[:, column] >= 0).tobytes(), []).append(column)
        self._trees, self._all = [], None
        for columns in groups.values():
            exists = rows[:, columns[0]] >= 0
            if not exists.all() and columns[0] > 0:
                tree = DecisionTreeClassifier(random_state=0).fit(rows[:, : columns[0]], exists)
                self._trees.append((columns, tree))

    def _existing(self, points: Points) -> Points:
        """`points` without what does not exist in them."""
        points = points.copy()
        for columns, tree in self._trees:
            exists = tree.predict(points[:, : columns[0]])
            points[np.ix_(~exists, columns)] = ABSENT
        return points

    # --- points and parameters

    def row(self, params: Mapping[str, Any]) -> NDArray[np.int64]:
        """Parameters as a point."""
        return np.array([
            choice.index(params[name]) if name in params else ABSENT for name, choice in self.each.items()
        ], dtype=np.int64)  # fmt: skip

    def rows(self, trials: Iterable[FrozenTrial]) -> Points:
        """The points of trials that were learned."""
        found = [self._rows[trial.number] for trial in trials]
        return np.stack(found) if found else np.empty((0, len(self.each)), dtype=np.int64)

    def whole(self, many: Iterable[Mapping[str, Any]]) -> Points:
        """The points of those parameters that leave nothing open: others are still being asked for.

        Those with a value that no finished trial has had are no points yet.
        """
        found = []
        for params in many:
            with contextlib.suppress(ValueError):
                found.append(self.row(params))
        rows = np.array(found, dtype=np.int64).reshape(-1, len(self.each))
        return rows[(self._existing(np.maximum(rows, 0)) == rows).all(1)] if len(rows) else rows

    def params(self, point: NDArray[np.int64]) -> dict[str, Any]:
        """A point as parameters, beside those that have one option alone."""
        return self._fixed | {
            name: choice.options[index]
            for (name, choice), index in zip(self.each.items(), point, strict=True) if index != ABSENT
        }  # fmt: skip

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {name: choice.distribution for name, choice in self.each.items()}

    # --- new points

    def random(self, count: int, rng: np.random.Generator) -> Points:
        """Each existing choice drawn uniformly."""
        return self._existing(self._drawn(count, rng))

    def mutated(self, points: Points, rng: np.random.Generator, changes: float = 2.0) -> Points:
        """Each point with about so many choices changed, at least one; what newly exists is drawn at random."""
        draws = rng.random(points.shape)
        draws[points == ABSENT] = np.inf
        change = draws < changes / np.maximum(1, (points != ABSENT).sum(1, keepdims=True))
        change[np.arange(len(points)), draws.argmin(1)] = True
        others = (points + rng.integers(1, self._sizes, points.shape)) % self._sizes
        whole = np.where(points == ABSENT, self._drawn(len(points), rng), points)
        return self._existing(np.where(change, others, whole))

    def crossed(self, points: Points, others: Points, rng: np.random.Generator) -> Points:
        """Each point with about half of the choices that it and the other one have taken from there."""
        take = (rng.random(points.shape) < 0.5) & (points != ABSENT) & (others != ABSENT)
        mixed = np.where(take, others, points)
        return self._existing(np.where(mixed == ABSENT, self._drawn(len(points), rng), mixed))

    def all(self) -> Points:
        """Every point, where they are few; otherwise none."""
        if self._all is None:
            self._all = np.empty((0, len(self.each)), dtype=np.int64)
            sizes = self._sizes.tolist()
            if math.prod(sizes) <= ENUMERABLE:
                every = np.indices(sizes).reshape(len(self.each), -1).T
                self._all = np.unique(self._existing(every), axis=0)
        return self._all

    def _drawn(self, count: int, rng: np.random.Generator) -> Points:
        return rng.integers(0, self._sizes, (count, len(self.each)))


def known(point: NDArray[np.int64], rows: Points) -> bool:
    """Whether a trial was this point: all that existed in the trial is the same here."""
    return bool(((rows == point) | (rows == ABSENT)).all(1).any())
