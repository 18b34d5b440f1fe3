"""What the samplers of this package share: a study read as points, and proposals within a known cost."""

from __future__ import annotations

import abc
import copy
import math
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

from mnas.samplers.choices import Choices, Points, known

Cost = Callable[[dict[str, Any]], float | None]
Floats = NDArray[np.float64]

TRIES = 30
"""Times that random points are drawn where nothing of what was preferred is new, before every point is looked at."""
AT_ONCE = 64


class ChoiceSampler(optuna.samplers.BaseSampler, abc.ABC):
    """Proposes points over categorical and integer choices, conditional ones too, that were not tried before.

    `known_cost` gives what parameters cost before they are evaluated, or None where it cannot tell; what costs more
    than `budget` is not proposed, unless nothing else is there. `examples` are trials from which the choices are
    learned before the study has any. Proposals follow from `seed`, the trial's number and the other trials alone, so a
    resumed study goes on as it would have, where no trial is pruned. Parameters of other kinds, and integers of more
    than a thousand values, are drawn at random.
    """

    def __init__(
        self, *, known_cost: Cost | None = None, budget: float | None = None, seed: int | None = None,
        examples: Sequence[FrozenTrial] = (),
    ):  # fmt: skip
        if budget is not None and (known_cost is None or not budget > 0):
            raise ValueError(f"budget={budget}: expected a number above zero, beside a known_cost")
        if seed is not None and seed < 0:
            raise ValueError(f"seed={seed}: expected a whole number from 0, or None for a random one")
        self._known_cost, self._budget = known_cost, math.inf if budget is None else budget
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._examples = [copy.copy(example) for example in examples]
        for index, example in enumerate(self._examples):
            example.number = -1 - index
        self._study: tuple[Callable[[], object], int] | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins anew: the study teaches it again."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_study": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def _begin(self) -> None:
        """Forget another study."""
        self.choices = Choices()
        self.choices.learn(self._examples)
        self._costs: dict[bytes, float] = {}

    # --- what Optuna asks

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        with self._lock:
            storage, number = study._storage, study._study_id  # a name may be that of a study elsewhere
            if self._study is None or self._study[0]() is not storage or self._study[1] != number:
                self._study = weakref.ref(storage), number
                self._begin()
            self._learn(study)
            return self.choices.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self._lock:
            chosen = self._chosen(study, trial) if search_space else {}
            return {name: value for name, value in chosen.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        seeds = np.random.SeedSequence([self._seed, trial.number, zlib.crc32(param_name.encode())])
        drawn = optuna.samplers.RandomSampler(seed=int(seeds.generate_state(1)[0]))
        return drawn.sample_independent(study, trial, param_name, param_distribution)

    # --- proposals

    def _learn(self, study: Study) -> list[FrozenTrial]:
        """The trials that say what choices there are: a failed one may have ended before it had them all."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        trials = [trial for trial in trials if trial.params]
        version = self.choices.version
        self.choices.learn(trials)
        if self.choices.version > version:
            self._costs = {}
        return trials

    def _chosen(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        """The first of the preferred points that is new and within the budget; where none is left, one tried before."""
        rng = np.random.default_rng([self._seed, trial.number])
        finished = self._learn(study)
        rows, values = self.choices.rows(finished), values_of(study, finished)
        running, failed = (study.get_trials(deepcopy=False, states=(s,)) for s in (TrialState.RUNNING, TrialState.FAIL))
        pending = self.choices.whole(other.params for other in running if other.number != trial.number)
        tried = np.concatenate([rows, pending, self.choices.whole(t.params for t in failed)])
        again, told = None, np.isfinite(values).all(1)
        for points in self._preferred(self.proposals(study, rows[told], values[told], pending, rng), rows, rng):
            for point in points:  # one at a time: a cost may take long to find
                if self.too_dear(self.costs(point[None]))[0]:
                    continue
                if not known(point, tried):
                    return self.choices.params(point)
                again = point if again is None else again
        return {} if again is None else self.choices.params(again)

    def _preferred(self, proposals: Points, tried: Points, rng: np.random.Generator) -> Iterator[Points]:
        """What the sampler would propose, best first; then anything."""
        yield proposals
        for _ in range(TRIES):
            yield self.choices.random(AT_ONCE, rng)
            if len(tried):
                yield self.choices.mutated(rng.choice(tried, AT_ONCE), rng)
        yield rng.permutation(self.choices.all())

    @abc.abstractmethod
    def proposals(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        """Points in order of preference; those tried before or over the budget are passed over.

        `values` (n, objectives), to be maximised, are what the trials of `rows` (n, choices) reached; those of
        `pending` still run.
        """

    def too_dear(self, costs: Floats) -> NDArray[np.bool_]:
        """Which costs are known to be over the budget; what costs an infinity always is."""
        return (costs > self._budget) | np.isposinf(costs)

    def costs(self, points: Points) -> Floats:
        """The known cost of each point (n,), NaN where it is not known; 0 without a known cost."""
        if self._known_cost is None:
            return np.zeros(len(points))
        keys = [point.tobytes() for point in points]
        for key, point in zip(keys, points, strict=True):
            if key not in self._costs:
                self._costs[key] = self._cost(self._known_cost, self.choices.params(point))
        return np.array([self._costs[key] for key in keys])

    @staticmethod
    def _cost(known_cost: Cost, params: dict[str, Any]) -> float:
        try:
            cost = known_cost(params)
        except KeyError:  # a choice that no trial has shown yet
            cost = None
        if cost is not None and not isinstance(cost, int | float | np.number):
            raise TypeError(f"known_cost of {params}: expected a number or None, got {cost!r}")
        return math.nan if cost is None else float(cost)


def values_of(study: Study, trials: Sequence[FrozenTrial]) -> Floats:
    """(trials, objectives) to maximise; NaN where a trial says nothing: not a number, or pruned before it reported.

    A pruned trial counts as the lower quartile of the finished ones: a pruner ends what is below the median.
    """
    signs = directions(study)
    nothing = [np.nan] * len(signs)
    told = [trial.values if trial.state == TrialState.COMPLETE else nothing for trial in trials]
    values = signs * np.array(told, dtype=float).reshape(-1, len(signs))
    values[~np.isfinite(values).all(1)] = np.nan
    if len(signs) == 1 and np.isfinite(values).any():
        pruned = [t.state == TrialState.PRUNED and bool(t.intermediate_values) for t in trials]
        values[pruned] = np.nanquantile(values, 0.25)
    return values


def directions(study: Study) -> Floats:
    """1 for each objective that is maximised, -1 for each that is minimised."""
    return np.array([1.0 if direction == StudyDirection.MAXIMIZE else -1.0 for direction in study.directions])
