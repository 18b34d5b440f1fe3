"""The base of this package's samplers: a study read as points, new points proposed within a known cost."""

from __future__ import annotations

import abc
import bisect
import copy
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mnas.samplers.choices import Choices, Points, was_tried
from mnas.samplers.costs import Cost, KnownCosts

Floats = NDArray[np.float64]
_Trials = tuple[list[FrozenTrial], list[FrozenTrial]]
"""The finished ones, and others."""

ATTEMPTS = 30
"""Batches of random points where no preferred point is new, before all points are enumerated."""
BATCH = 64
"""Random points of a batch."""


class ChoiceSampler(optuna.samplers.BaseSampler, abc.ABC):
    """Proposes new points of categorical and integer parameters, conditional ones too.

    `known_cost` is the cost of parameters before they are evaluated, None where it is not known; points that cost more
    than `budget` are not proposed unless there are no others. `examples` are trials from which the choices are learned
    before the study has any. Proposals depend on `seed`, the trial's number and the other trials only, so a resumed
    study continues as if it had not stopped. Parameters of other kinds, and integers with more
    than 1000 values, are drawn at random. Raises ValueError for a budget without a known cost or a negative seed.
    """

    def __init__(
        self, *, known_cost: Cost | None = None, budget: float | None = None, seed: int | None = None,
        examples: Sequence[FrozenTrial] = (),
    ):  # fmt: skip
        if seed is not None and seed < 0:
            raise ValueError(f"seed={seed}: expected a whole number from 0, or None for a random seed")
        self._costs = KnownCosts(known_cost, budget)
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._examples = [copy.copy(example) for example in examples]
        for index, example in enumerate(self._examples):
            example.number = -1 - index
        self._study: tuple[Callable[[], object], int] | None = None
        self._seen: tuple[int, _Trials] | None = None  # the trials as a new one's choices were asked for, by its number
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts anew and learns from the study again."""
        state = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return state | {"_study": None, "_seen": None, "_costs": copy.copy(self._costs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def _begin(self) -> None:
        """Start with a new study: forget the last one."""
        self.choices = Choices()
        self.choices.learn(self._examples)
        self._costs.clear()

    # --- Optuna's interface

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        with self._lock:
            storage, number = study._storage, study._study_id  # a name may be that of a study elsewhere
            if self._study is None or self._study[0]() is not storage or self._study[1] != number:
                self._study = weakref.ref(storage), number
                self._begin()
            self._seen = trial.number, self._learn(study)
            return self.choices.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self._lock:
            params = self._propose(study, trial) if search_space else {}
            return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        seeds = np.random.SeedSequence([self._seed, trial.number, zlib.crc32(param_name.encode())])
        sampler = optuna.samplers.RandomSampler(seed=int(seeds.generate_state(1)[0]))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    # --- proposals

    def _learn(self, study: Study) -> _Trials:
        """Learn from the finished trials, and return them and the others with parameters.

        A failed trial counts as another: it may have ended before its last choice.
        """
        ended, finished, others = (TrialState.COMPLETE, TrialState.PRUNED), list[FrozenTrial](), list[FrozenTrial]()
        for trial in study.get_trials(deepcopy=False):  # once, since each call reads the database
            if trial.params:
                (finished if trial.state in ended else others).append(trial)
        version = self.choices.version
        self.choices.learn(finished)
        if self.choices.version > version:
            self._costs.clear()
        return finished, others

    def _propose(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        """The first preferred point that is new and within the budget; where none is left, one tried before."""
        rng = np.random.default_rng([self._seed, trial.number])
        seen, self._seen = self._seen, None
        finished, others = seen[1] if seen is not None and seen[0] == trial.number else self._learn(study)
        rows, values = self.choices.rows(finished), values_of(study, finished)
        running, failed = ([one for one in others if one.state == s] for s in (TrialState.RUNNING, TrialState.FAIL))
        pending = self.choices.complete_rows(other.params for other in running if other.number != trial.number)
        tried = np.concatenate([rows, pending, self.choices.complete_rows(other.params for other in failed)])
        repeated, has_value = None, np.isfinite(values).all(1)
        proposals = self.proposals(study, rows[has_value], values[has_value], pending, rng)
        for points in self._preferred(proposals, rows, rng):
            for point in points:  # one by one: a cost may take long to compute
                if self.over_budget(self.costs(point[None]))[0]:
                    continue
                if not was_tried(point, tried):
                    return self.choices.params(point)
                repeated = point if repeated is None else repeated
        return {} if repeated is None else self.choices.params(repeated)

    def _preferred(self, proposals: Points, tried: Points, rng: np.random.Generator) -> Iterator[Points]:
        """The sampler's proposals, best first; then random points and neighbours; then all points."""
        yield proposals
        for _ in range(ATTEMPTS):
            yield self.choices.random(BATCH, rng)
            if len(tried):
                yield self.choices.mutated(rng.choice(tried, BATCH), rng)
        yield rng.permutation(self.choices.all())

    @abc.abstractmethod
    def proposals(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        """Points in order of preference; those that were tried or are over the budget are skipped later.

        `values` (n, objectives) are the results of the points `rows` (n, choices), to be maximised; `pending` points
        are being evaluated.
        """

    def costs(self, points: Points) -> Floats:
        """The known cost of each point (n,), NaN where it is not known; 0 without a known cost."""
        return self._costs.of(points, self.choices)

    def over_budget(self, costs: Floats) -> NDArray[np.bool_]:
        """Mask (n,) of the costs that are known to be over the budget."""
        return self._costs.over_budget(costs)


def values_of(study: Study, trials: Sequence[FrozenTrial]) -> Floats:
    """(trials, objectives) to maximise; NaN for a trial without values: not a number, or pruned before it reported.

    A pruned trial counts as the lower quartile of those completed before it, since a median pruner ends those below the
    median.
    """
    signs = directions(study)
    unknown = [np.nan] * len(signs)
    results = [trial.values if trial.state == TrialState.COMPLETE else unknown for trial in trials]
    values = signs * np.array(results, dtype=float).reshape(-1, len(signs))
    values[~np.isfinite(values).all(1)] = np.nan
    if len(signs) == 1 and any(trial.state == TrialState.PRUNED and trial.intermediate_values for trial in trials):
        completed = list[float]()  # sorted
        for row, trial in zip(values, trials, strict=True):
            if np.isfinite(row[0]):
                bisect.insort(completed, float(row[0]))
            elif completed and trial.state == TrialState.PRUNED and trial.intermediate_values:
                row[0] = _lower_quartile(completed)
    return values


def _lower_quartile(ordered: Sequence[float]) -> float:
    """Of ascending numbers, interpolated as numpy.quantile does."""
    below, part = divmod((len(ordered) - 1) / 4, 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + part * (high - low)


def directions(study: Study) -> Floats:
    """1 for each objective that is maximised, -1 for each that is minimised."""
    return np.array([1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in study.directions])
