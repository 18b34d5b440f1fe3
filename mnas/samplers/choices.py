"""The choices of a study, learned from its trials: their options, which of them exist together, points among them."""

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
"""(n, choices): the index of each choice's option; ABSENT where a choice does not exist in that point."""

ABSENT = -1
MAX_OPTIONS = 1000
"""An integer parameter with more values is not treated as a choice."""
ENUMERABLE = 10_000
"""Largest number of points that are enumerated."""


@dataclass(frozen=True)
class Choice:
    """A categorical or integer parameter."""

    distribution: CategoricalDistribution | IntDistribution
    options: Sequence[Any]

    def index(self, option: Any) -> int:
        """The index of an option; NaN equals NaN."""
        if isinstance(self.distribution, CategoricalDistribution):
            return int(self.distribution.to_internal_repr(option))
        return self.options.index(option)

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """Positions (options,) of the options on a line, 0..1; None where they have no order."""
        if any(isinstance(option, bool) or not isinstance(option, int | float) for option in self.options):
            return None
        if not all(map(math.isfinite, self.options)):
            return None
        values = np.array(self.options, dtype=float)
        if isinstance(self.distribution, IntDistribution) and self.distribution.log:
            values = np.log(values)
        return (values - values.min()) / np.ptp(values)


def choice_of(distribution: BaseDistribution) -> Choice | None:
    """A parameter as a choice; None for a float, and for an integer with more than MAX_OPTIONS values."""
    if isinstance(distribution, IntDistribution):
        step = 1 if distribution.log else distribution.step
        if (distribution.high - distribution.low) // step >= MAX_OPTIONS:
            return None
        options: Sequence[Any] = range(distribution.low, distribution.high + 1, step)
    elif isinstance(distribution, CategoricalDistribution):
        options = distribution.choices
    else:
        return None
    return Choice(distribution, options)


def _union(first: IntDistribution, second: IntDistribution) -> IntDistribution:
    """The range that covers both."""
    ranges = [distribution for distribution in (first, second) if not distribution.single()]
    low, high = min(first.low, second.low), max(first.high, second.high)
    log = low > 0 and bool(ranges) and all(distribution.log for distribution in ranges)
    step = math.gcd(*(distribution.step for distribution in ranges), first.low - low, second.low - low) or 1
    return IntDistribution(low, high, log=log, step=1 if log else step)


class Choices:
    """The choices that occur in a study's trials, as learned so far.

    A choice may exist only beside certain options of earlier choices; decision trees learn which from the trials.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Choice] = {}
        self.version = 0
        """Grows whenever a choice or an option is added: points of an earlier version are not valid any more."""
        self._single: dict[str, Any] = {}
        # the object that was last found equal to a choice's distribution
        self._same: dict[str, BaseDistribution] = {}
        self._unsupported: set[str] = set()
        self._params: dict[int, Mapping[str, Any]] = {}
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._trees: list[tuple[list[int], DecisionTreeClassifier]] = []
        self._all: Points | None = None

    @property
    def _sizes(self) -> NDArray[np.int64]:
        """The number of options of each choice."""
        return np.array([len(choice.options) for choice in self.by_name.values()], dtype=np.int64)

    # --- learning

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Add the choices, options and conditions of those trials that are new."""
        new = [trial for trial in trials if trial.number not in self._params and trial.params]
        before = self.version
        for trial in new:
            self._params[trial.number] = trial.params
            self._add_choices(trial)
        if self.version > before:
            self._rows, self._all = {}, None
        rows = {number: self.row(params) for number, params in self._params.items() if number not in self._rows}
        self._rows |= rows
        if rows:
            new_rows = np.stack(list(rows.values()))
            if self.version > before or (self._existing(np.maximum(new_rows, 0)) != new_rows).any():
                self._learn_existence(np.stack(list(self._rows.values())))

    def _add_choices(self, trial: FrozenTrial) -> None:
        """Add a trial's choices; a new one is inserted after the choice that precedes it in the trial."""
        names, after = list(self.by_name), 0
        for name, value in trial.params.items():
            if name in self._unsupported:
                continue
            distribution = self._covering(name, value, trial.distributions[name])
            if name in self.by_name and self._is_known(name, distribution):
                after = names.index(name) + 1
                continue
            if distribution.single():
                self._single[name] = value
                continue
            self._single.pop(name, None)
            self.version += 1
            if name not in names:
                names.insert(after, name)
            after = names.index(name)
            if (choice := choice_of(distribution)) is None:
                self._unsupported.add(name)
                names.remove(name)
            else:
                self.by_name[name] = choice
                after += 1
        self.by_name = {name: self.by_name[name] for name in names}

    def _is_known(self, name: str, distribution: BaseDistribution) -> bool:
        """Whether this is the distribution of a known choice; to compare all options of every trial takes long."""
        if distribution is not self._same.get(name):
            if distribution != self.by_name[name].distribution:
                self._same.pop(name, None)
                return False
            self._same[name] = distribution
        return True

    def _covering(self, name: str, value: Any, distribution: BaseDistribution) -> BaseDistribution:
        """A distribution of all values so far: an integer's range may change, and enqueued values may lie outside."""
        if isinstance(distribution, IntDistribution):
            for number in (value, self._single.get(name, value)):
                distribution = _union(distribution, IntDistribution(number, number))
            if name in self.by_name and isinstance(earlier := self.by_name[name].distribution, IntDistribution):
                distribution = _union(distribution, earlier)
        return distribution

    def _learn_existence(self, rows: Points) -> None:
        """Fit one tree for each set of choices that exist in the same rows."""
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
        """`points` with ABSENT for the choices that do not exist in them."""
        points = points.copy()
        for columns, tree in self._trees:
            exists = tree.predict(points[:, : columns[0]])
            points[np.ix_(~exists, columns)] = ABSENT
        return points

    # --- points and parameters

    def row(self, params: Mapping[str, Any]) -> NDArray[np.int64]:
        """Parameters as a point."""
        return np.array([
            choice.index(params[name]) if name in params else ABSENT for name, choice in self.by_name.items()
        ], dtype=np.int64)  # fmt: skip

    def rows(self, trials: Iterable[FrozenTrial]) -> Points:
        """The points of learned trials."""
        rows = [self._rows[trial.number] for trial in trials]
        return np.stack(rows) if rows else np.empty((0, len(self.by_name)), dtype=np.int64)

    def complete_rows(self, many: Iterable[Mapping[str, Any]]) -> Points:
        """The points of those parameter sets that are complete, of trials that run or failed.

        A trial may still be asking for choices, or may have a value that no finished trial has: both are left out.
        """
        points = []
        for params in many:
            with contextlib.suppress(ValueError):
                points.append(self.row(params))
        rows = np.array(points, dtype=np.int64).reshape(-1, len(self.by_name))
        return rows[(self._existing(np.maximum(rows, 0)) == rows).all(1)] if len(rows) else rows

    def params(self, point: NDArray[np.int64]) -> dict[str, Any]:
        """The parameters of a point, with those that have a single option."""
        return self._single | {
            name: choice.options[index]
            for (name, choice), index in zip(self.by_name.items(), point, strict=True) if index != ABSENT
        }  # fmt: skip

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distribution of each choice."""
        return {name: choice.distribution for name, choice in self.by_name.items()}

    # --- new points

    def random(self, count: int, rng: np.random.Generator) -> Points:
        """`count` points with each existing choice drawn uniformly."""
        return self._existing(self._drawn(count, rng))

    def mutated(self, points: Points, rng: np.random.Generator, changes: float = 2.0) -> Points:
        """Each point with about `changes` choices changed, at least one; choices that newly exist are random."""
        draws = rng.random(points.shape)
        draws[points == ABSENT] = np.inf
        change = draws < changes / np.maximum(1, (points != ABSENT).sum(1, keepdims=True))
        change[np.arange(len(points)), draws.argmin(1)] = True
        others = (points + rng.integers(1, self._sizes, points.shape)) % self._sizes
        whole = np.where(points == ABSENT, self._drawn(len(points), rng), points)
        return self._existing(np.where(change, others, whole))

    def crossed(self, points: Points, others: Points, rng: np.random.Generator) -> Points:
        """Each point with about half of the choices that both have taken from its partner in `others`."""
        take = (rng.random(points.shape) < 0.5) & (points != ABSENT) & (others != ABSENT)
        mixed = np.where(take, others, points)
        return self._existing(np.where(mixed == ABSENT, self._drawn(len(points), rng), mixed))

    def all(self) -> Points:
        """Every point; empty where there may be more than ENUMERABLE."""
        if self._all is None:
            self._all = np.empty((0, len(self.by_name)), dtype=np.int64)
            sizes = self._sizes.tolist()
            if math.prod(sizes) <= ENUMERABLE:
                every = np.indices(sizes).reshape(len(self.by_name), -1).T
                self._all = np.unique(self._existing(every), axis=0)
        return self._all

    def _drawn(self, count: int, rng: np.random.Generator) -> Points:
        return rng.integers(0, self._sizes, (count, len(self.by_name)))


def was_tried(point: NDArray[np.int64], rows: Points) -> bool:
    """Whether one of `rows` is this point: every choice that exists in the row has the point's option."""
    return bool(((rows == point) | (rows == ABSENT)).all(1).any())
