"""A sampler that learns the objective from finished trials and knows costs before they are paid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial

from mnas.samplers.base import ChoiceSampler, Floats, directions, values_of
from mnas.samplers.choices import Points
from mnas.samplers.improvement import hypervolume_improvement, log_expected_improvement, nondominated, ranks
from mnas.samplers.surrogate import Features, Hyperparameters, Surrogate, fitted

STARTUP = 5
"""Values before anything is learned from them; until then points are drawn at random."""
POOL, ROUNDS, PARENTS = 120, 3, 10
"""Candidates are bred in rounds, from the best trials and the most promising candidates of the rounds before."""
GROWTH = 1.15
"""The hyperparameters are fitted anew whenever there are so many times more values."""
OPTIMISM = 1.0
"""Standard deviations above its mean at which a candidate is compared with a front."""
MARGIN = 0.1
"""Of each objective's span, how far below the worst value the hypervolume begins."""


class PredictorSampler(ChoiceSampler):
    """Bayesian optimisation over categorical and integer choices.

    A Gaussian process learns each objective. Of a pool of mutated, crossed and random points within the budget, the
    one of greatest expected improvement is proposed; where there are several objectives, the one that adds most to the
    front's hypervolume, judged optimistically. Trials that still run count as if they had reached what is expected of
    them. The known cost helps to predict, and an objective that equals it is not learned.
    """

    def _begin(self) -> None:
        super()._begin()
        self._fits: dict[tuple[int, int, int], Hyperparameters] = {}

    def proposals(
        self, study: Study, finished: Sequence[FrozenTrial], pending: Points, rng: np.random.Generator
    ) -> Points:
        values = values_of(study, finished)
        told = np.isfinite(values).all(1)
        rows, values = self.choices.rows(finished)[told], values[told]
        if len(rows) < STARTUP:
            return self.choices.random(POOL, rng)
        merit = self._merit(study, rows, values, pending)
        best = rows[np.argsort(ranks(values), kind="stable")[:PARENTS]]
        pool, scores = rows[:0], np.empty(0)
        for _ in range(ROUNDS):
            promising = np.concatenate([best, pool[np.argsort(-scores, kind="stable")[:PARENTS]]])
            new = self._affordable(np.concatenate([
                self.choices.mutated(rng.choice(promising, POOL), rng),
                self.choices.crossed(rng.choice(promising, POOL // 4), rng.choice(promising, POOL // 4), rng),
                self.choices.random(POOL // 4, rng),
            ]))  # fmt: skip
            pool, scores = np.concatenate([pool, new]), np.concatenate([scores, merit(new)])
        return pool[np.argsort(-scores, kind="stable")]

    def _affordable(self, points: Points) -> Points:
        points = np.unique(points, axis=0)
        return points[~self.too_dear(self.costs(points))]

    # --- what is learned

    def _merit(self, study: Study, rows: Points, values: Floats, pending: Points) -> Callable[[Points], Floats]:
        """How promising points are, after these rows have reached these values."""
        describe = Features(list(self.choices.each.values()), self.costs if self._known_cost else None, rows)
        x, waiting, costs = describe(rows), describe(pending), self.costs(rows)
        models: list[Surrogate | float] = []  # or the sign by which the known cost is the objective
        for number, (column, sign) in enumerate(zip(values.T, directions(study), strict=True)):
            if self._known_cost is not None and np.allclose(column, sign * costs):
                models.append(float(sign))
            else:
                models.append(Surrogate(self._hyper(number, x, describe.owner, column), x, column, waiting))

        def expected(points: Points) -> tuple[Floats, Floats]:
            """Mean and deviation (points, objectives)."""
            features, known = describe(points), self.costs(points)
            each = [
                (model * known, np.zeros(len(points))) if isinstance(model, float) else model(features)
                for model in models
            ]
            return np.stack([mean for mean, _ in each], 1), np.stack([deviation for _, deviation in each], 1)

        if len(models) == 1:
            best = float(expected(rows)[0].max())

            def improvement(points: Points) -> Floats:
                mean, deviation = expected(points)
                return log_expected_improvement(mean[:, 0], np.maximum(deviation[:, 0], 1e-9), best)

            return improvement
        scale = np.maximum(np.ptp(values, axis=0), 1e-12)
        reference, front = values.min(0) / scale - MARGIN, values[nondominated(values)] / scale

        def gain(points: Points) -> Floats:
            mean, deviation = expected(points)
            optimistic = (mean + OPTIMISM * deviation) / scale
            # of what gains nothing, the nearer to the front the better
            behind = (front[None] - optimistic[:, None]).max(axis=2).min(axis=1)
            return hypervolume_improvement(optimistic, front, reference) - 1e-3 * np.maximum(0, behind)

        return gain

    def _hyper(self, number: int, x: Floats, owner: NDArray[np.int64], values: Floats) -> Hyperparameters:
        """Hyperparameters fitted to the first so many values, for numbers that grow by a factor: they stay a while."""
        count = STARTUP
        while count * GROWTH + 1 <= len(values):
            count = int(count * GROWTH + 1)
        key = (number, count, x.shape[1])
        if key not in self._fits:
            self._fits[key] = fitted(x[:count], owner, values[:count])
        return self._fits[key]
