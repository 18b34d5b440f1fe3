"""A sampler that learns the objective from finished trials and knows costs before they are paid."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import sklearn
from numpy.typing import NDArray
from optuna.study import Study
from threadpoolctl import ThreadpoolController

from mnas.samplers.base import ChoiceSampler, Floats, directions
from mnas.samplers.choices import Points
from mnas.samplers.improvement import hypervolume_improvement, log_expected_improvement
from mnas.samplers.pareto import nondominated, ranks
from mnas.samplers.surrogate import CostModel, Features, Hyperparameters, Surrogate, fitted, spread

STARTUP = 5
"""Values before anything is learned from them; until then points are drawn at random."""
POOL, ROUNDS, PARENTS = 120, 5, 10
"""Candidates are bred in rounds, from the best trials and the most promising candidates of the rounds before."""
ASKED, CHECKED = 256, 40
"""Random points that teach what points cost about, and the candidates whose cost is asked for in the end."""
GROWTH = 1.15
"""What is slow to learn is learned anew whenever there are so many times more values."""
OPTIMISM = 1.0
"""Standard deviations above its mean at which a candidate is compared with a front."""
MOST_LEARNED = 192
"""Of more values, the best half of so many are learned from, and others of all kinds."""
LEAST_GAIN, LEAST_LOG_CHANCE = 1e-9, -7.0
MARGIN = 0.1
"""Of each objective's span, how far below the worst known or expected value the hypervolume begins."""

Merit = Callable[[Points, Floats], Floats]
"""How promising points of these costs are."""
Costs = Callable[[Points], tuple[Floats, Floats]]
"""About what points cost, and the logarithm of the chance that it is within the budget."""


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
        self._cost_models: dict[tuple[int, int], CostModel | None] = {}
        self._described: dict[int, Features] = {}

    def proposals(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        if len(rows) < STARTUP:
            return self.choices.random(POOL, rng)
        # small matrices: threads would wait for one another, and checks take longer than what is checked
        checked = sklearn.config_context(assume_finite=True, skip_parameter_validation=True)
        with _blas().limit(limits=1, user_api="blas"), checked:
            return self._promising(study, rows, values, pending, rng)

    def _promising(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        known, about = self.costs(rows), self._cost_model(rows)
        order = np.argsort(ranks(values), kind="stable")
        kept = np.sort(spread(order, MOST_LEARNED))
        every = self.choices.all()
        pool = every if len(every) else self.choices.random(POOL, rng)
        costs, log_chance = self._asked(pool, about) if len(every) else about(pool)
        merit = self._merit(study, rows, values, known, kept, pending, (pool, costs))
        scores = _likely(merit, pool, costs, log_chance)
        if len(every):
            return every[np.argsort(-scores, kind="stable")]
        for _ in range(ROUNDS):
            parents = np.concatenate([rows[order[:PARENTS]], pool[np.argsort(-scores, kind="stable")[:PARENTS]]])
            new = np.concatenate([
                self.choices.mutated(rng.choice(parents, POOL), rng),
                self.choices.crossed(rng.choice(parents, POOL // 4), rng.choice(parents, POOL // 4), rng),
            ])  # fmt: skip
            costs, log_chance = about(new)
            pool = np.concatenate([pool, new])
            scores = np.concatenate([scores, _likely(merit, new, costs, log_chance)])
        pool = np.unique(pool[np.argsort(-scores, kind="stable")[:CHECKED]], axis=0)
        costs, log_chance = self._asked(pool, about)
        return pool[np.argsort(-_likely(merit, pool, costs, log_chance), kind="stable")]

    # --- what is learned

    def _asked(self, points: Points, about: Costs) -> tuple[Floats, Floats]:
        """What points cost, and the logarithm of the chance that it is within the budget; predicted where unknown."""
        costs = self.costs(points)
        log_chance = np.where(self.too_dear(costs), -np.inf, 0.0)
        if (unknown := np.isnan(costs)).any():
            costs[unknown], log_chance[unknown] = about(points[unknown])
        return costs, log_chance

    def _cost_model(self, rows: Points) -> Costs:
        """The same, all predicted; known costs alone where they teach too little."""
        key = (_milestone(len(rows)), self.choices.version)
        if key not in self._cost_models:
            points = np.concatenate([
                rows[: key[0]], self.choices.random(ASKED, np.random.default_rng([self._seed, *key])),
            ])  # fmt: skip
            costs = self.costs(points)
            known = np.isfinite(costs)
            learns = self._known_cost is not None and known.sum() > ASKED // 8
            self._cost_models[key] = CostModel(self._features.of_choices(points), costs) if learns else None
        model = self._cost_models[key]
        if model is None:
            return lambda points: self._asked(points, _unknown)
        features = self._features

        def predicted(points: Points) -> tuple[Floats, Floats]:
            costs = model(features.of_choices(points))
            return costs, model.log_chance(costs, self._budget)

        return predicted

    @property
    def _features(self) -> Features:
        version = self.choices.version
        if version not in self._described:
            self._described = {version: Features(list(self.choices.each.values()))}
        return self._described[version]

    def _hyper(self, number: int, rows: Points, values: Floats, known: Floats) -> Hyperparameters:
        """Those that suit the first values, at rows of known costs."""
        count = _milestone(len(values))
        key = (number, count, self.choices.version)
        if key not in self._fits:
            describe = self._features.beside(known[:count])
            features = describe(rows[:count], known[:count])
            self._fits[key] = fitted(features, describe.owner, values[:count])
        return self._fits[key]

    def _merit(
        self, study: Study, rows: Points, values: Floats, known: Floats, kept: NDArray[np.int64], pending: Points,
        anywhere: tuple[Points, Floats],
    ) -> Merit:  # fmt: skip
        """What these rows of known costs, of which it learns the `kept`, say after they have reached these values.

        `anywhere` are some of all points, and their costs.
        """
        describe, reached, dear = self._features.beside(known), values[kept], self.too_dear(known[kept])
        # what was tried over the budget teaches, but is not what others have to beat
        rivals = np.ones(len(kept), dtype=bool) if dear.all() else ~dear
        x, waiting = describe(rows[kept], known[kept]), describe(pending, self.costs(pending))
        models: list[Surrogate | float] = []  # or the sign by which the known cost is the objective
        for number, (column, sign) in enumerate(zip(reached.T, directions(study), strict=True)):
            if self._known_cost is not None and np.allclose(column, sign * known[kept]):
                models.append(float(sign))
            else:
                hyper = self._hyper(number, rows, values[:, number], known)
                models.append(Surrogate(hyper, x, column, waiting))

        def expected(points: Points, costs: Floats) -> tuple[Floats, Floats]:
            """Mean and deviation (points, objectives)."""
            features = describe(points, costs)
            each = [
                (model * costs, np.zeros(len(points))) if isinstance(model, float) else model(features)
                for model in models
            ]
            return np.stack([mean for mean, _ in each], 1), np.stack([deviation for _, deviation in each], 1)

        if len(models) == 1:
            model = models[0]
            best = float((reached[:, 0] if isinstance(model, float) else model.mean(x))[rivals].max())

            def improvement(points: Points, costs: Floats) -> Floats:
                mean, deviation = expected(points, costs)
                return log_expected_improvement(mean[:, 0], np.maximum(deviation[:, 0], 1e-9), best)

            return improvement
        scale = np.maximum(np.ptp(reached, axis=0), 1e-12)
        worst = np.concatenate([reached, expected(*anywhere)[0]]).min(axis=0)
        reference, front = worst / scale - MARGIN, reached[rivals][nondominated(reached[rivals])] / scale

        def gain(points: Points, costs: Floats) -> Floats:
            mean, deviation = expected(points, costs)
            optimistic = (mean + OPTIMISM * deviation) / scale
            # of what gains nothing, the nearer to the front the better
            behind = (front[None] - optimistic[:, None]).max(axis=2).min(axis=1)
            gained = hypervolume_improvement(optimistic, front, reference)
            return np.log(np.maximum(gained, LEAST_GAIN)) - np.maximum(0, behind)

        return gain


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _likely(merit: Merit, points: Points, costs: Floats, log_chance: Floats) -> Floats:
    """The merit of each point with its chance to be affordable; what has next to none is not looked at."""
    scores = np.full(len(points), -np.inf)
    able = log_chance > LEAST_LOG_CHANCE
    if able.any():
        scores[able] = merit(points[able], costs[able]) + log_chance[able]
    return scores


def _unknown(points: Points) -> tuple[Floats, Floats]:
    """Costs that nobody knows are no obstacle."""
    return np.full(len(points), np.nan), np.zeros(len(points))


def _milestone(count: int) -> int:
    """The last of the numbers that grow by GROWTH; between two of them, nothing slow is learned."""
    last = STARTUP
    while last * GROWTH + 1 <= count:
        last = int(last * GROWTH + 1)
    return last
