"""Bayesian optimisation that learns the objectives from finished trials and stays within a cost known in advance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sklearn
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from mnas.samplers.base import ChoiceSampler, Floats, directions
from mnas.samplers.choices import Points
from mnas.samplers.costs import Cost
from mnas.samplers.improvement import hypervolume_improvement, log_expected_improvement
from mnas.samplers.pareto import nondominated, ranks
from mnas.samplers.surrogate import CostModel, Features, Hyperparameters, Surrogate, at_least_binomial, fitted, spread

STARTUP = 5
"""Trials with values before a model is fitted; until then points are random."""
POOL, ROUNDS, PARENTS = 120, 5, 10
"""Candidates are bred in rounds from the best trials and the best candidates so far: their number, rounds, parents."""
COST_SAMPLES, CHECKED = 256, 40
"""Random points that the cost model is fitted to, and candidates whose exact cost is computed in the end."""
GROWTH = 1.15
"""Factor of new trials after which hyperparameters and cost model are fitted again."""
OPTIMISM = 1.0
"""Standard deviations above its mean at which a candidate is compared with a front."""
MAX_LEARNED = 192
"""Most trials that a model is fitted to: the best half, and evenly spaced ones of the others."""
MIN_GAIN, MIN_LOG_CHANCE = 1e-9, -7.0
MARGIN = 0.1
"""Distance of the hypervolume's reference below the worst known or expected value, as a part of each range."""

Merit = Callable[[Points, Floats], Floats]
"""(points (n, choices), costs (n,)) -> how promising each point is (n,)."""
Costs = Callable[[Points], tuple[Floats, Floats]]
"""Points (n, choices) -> their predicted costs (n,), and the log of the chance (n,) that each is within the budget."""


@dataclass
class Fitted:
    """The slow fits for one version of the choices, each made once."""

    version: int
    features: Features
    hyperparameters: dict[tuple[int, int], Hyperparameters]
    """By objective and number of trials."""
    cost_models: dict[int, CostModel | None]
    """By number of trials."""


class PredictorSampler(ChoiceSampler):
    """Bayesian optimisation over categorical and integer choices.

    A Gaussian process models each objective. The pool of candidates has mutated, crossed and random points within the
    budget; the one with the largest expected improvement is proposed, or for several objectives the one that adds most
    to the front's hypervolume at an optimistic estimate. Running trials count with their expected values. The known
    cost is a feature of the models, and an objective that equals it is not modelled. The arguments are ChoiceSampler's,
    and `counted`: the number of images of which the first objective is a share; its binomial noise is the least that
    the model takes it to have.
    """

    def __init__(
        self, *, known_cost: Cost | None = None, budget: float | None = None, seed: int | None = None,
        examples: Sequence[FrozenTrial] = (), counted: int | None = None,
    ):  # fmt: skip
        super().__init__(known_cost=known_cost, budget=budget, seed=seed, examples=examples)
        self._counted = counted

    def _begin(self) -> None:
        super()._begin()
        self._cached: Fitted | None = None

    @property
    def _fitted(self) -> Fitted:
        version = self.choices.version
        if self._cached is None or self._cached.version != version:
            self._cached = Fitted(version, Features(list(self.choices.by_name.values())), {}, {})
        return self._cached

    def proposals(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        if len(rows) < STARTUP:
            return self.choices.random(POOL, rng)
        # matrices are small: threads would wait for each other, and validation takes longer than the computation
        unchecked = sklearn.config_context(assume_finite=True, skip_parameter_validation=True)
        with _blas().limit(limits=1, user_api="blas"), unchecked:
            return self._ranked_pool(study, rows, values, pending, rng)

    def _ranked_pool(
        self, study: Study, rows: Points, values: Floats, pending: Points, rng: np.random.Generator
    ) -> Points:
        """A pool of candidates, the most promising first."""
        known_costs, predict_costs = self.costs(rows), self._cost_predictor(rows)
        order = np.argsort(ranks(values), kind="stable")
        kept = np.sort(spread(order, MAX_LEARNED))
        every = self.choices.all()
        pool = every if len(every) else self.choices.random(POOL, rng)
        costs, log_chance = self._exact_costs(pool, predict_costs) if len(every) else predict_costs(pool)
        merit = self._merit(study, rows, values, known_costs, kept, pending, (pool, costs))
        scores = _scores(merit, pool, costs, log_chance)
        if len(every):
            return every[np.argsort(-scores, kind="stable")]
        for _ in range(ROUNDS):
            parents = np.concatenate([rows[order[:PARENTS]], pool[np.argsort(-scores, kind="stable")[:PARENTS]]])
            new = np.concatenate([
                self.choices.mutated(rng.choice(parents, POOL), rng),
                self.choices.crossed(rng.choice(parents, POOL // 4), rng.choice(parents, POOL // 4), rng),
            ])  # fmt: skip
            costs, log_chance = predict_costs(new)
            pool = np.concatenate([pool, new])
            scores = np.concatenate([scores, _scores(merit, new, costs, log_chance)])
        pool = np.unique(pool[np.argsort(-scores, kind="stable")[:CHECKED]], axis=0)
        costs, log_chance = self._exact_costs(pool, predict_costs)
        return pool[np.argsort(-_scores(merit, pool, costs, log_chance), kind="stable")]

    # --- costs

    def _exact_costs(self, points: Points, predict_costs: Costs) -> tuple[Floats, Floats]:
        """As `Costs`, with the known costs and predictions where they are not known."""
        costs = self.costs(points)
        log_chance = np.where(self.over_budget(costs), -np.inf, 0.0)
        if (unknown := np.isnan(costs)).any():
            costs[unknown], log_chance[unknown] = predict_costs(points[unknown])
        return costs, log_chance

    def _cost_predictor(self, rows: Points) -> Costs:
        """Predicted costs; the known ones alone where too few are known to fit a model."""
        count, models, features = _milestone(len(rows)), self._fitted.cost_models, self._fitted.features
        if count not in models:
            rng = np.random.default_rng([self._seed, count, self.choices.version])
            points = np.concatenate([rows[:count], self.choices.random(COST_SAMPLES, rng)])
            costs = self.costs(points)
            enough = self._costs.exist and np.isfinite(costs).sum() > COST_SAMPLES // 8
            models[count] = CostModel(features.of_choices(points), costs) if enough else None
        model = models[count]
        if model is None:
            return lambda points: self._exact_costs(points, _unknown)

        def predict(points: Points) -> tuple[Floats, Floats]:
            costs = model(features.of_choices(points))
            return costs, model.log_chance(costs, self._costs.budget)

        return predict

    # --- objectives

    def _hyperparameters(self, number: int, rows: Points, values: Floats, known_costs: Floats) -> Hyperparameters:
        """Hyperparameters of objective `number`, fitted to its first `values` at `rows` with `known_costs`."""
        count, cache = _milestone(len(values)), self._fitted.hyperparameters
        if (number, count) not in cache:
            features_of = self._fitted.features.beside(known_costs[:count])
            features = features_of(rows[:count], known_costs[:count])
            cache[number, count] = fitted(features, features_of.owner, values[:count])
        return cache[number, count]

    def _merit(
        self, study: Study, rows: Points, values: Floats, known_costs: Floats, kept: NDArray[np.int64], pending: Points,
        sample: tuple[Points, Floats],
    ) -> Merit:  # fmt: skip
        """The merit of points, from `values` at `rows` with `known_costs`; the models are fitted to the `kept` rows.

        `sample` is a sample of all points with their costs.
        """
        features_of, reached = self._fitted.features.beside(known_costs), values[kept]
        over_budget = self.over_budget(known_costs[kept])
        # a trial over the budget is learned from, but a candidate does not have to beat it
        rivals = np.ones(len(kept), dtype=bool) if over_budget.all() else ~over_budget
        x, waiting = features_of(rows[kept], known_costs[kept]), features_of(pending, self.costs(pending))
        models: list[Surrogate | float] = []  # a number: the objective is the known cost times this sign
        for number, (column, sign) in enumerate(zip(reached.T, directions(study), strict=True)):
            if self._costs.exist and np.allclose(column, sign * known_costs[kept]):
                models.append(float(sign))
            else:
                hyperparameters = self._hyperparameters(number, rows, values[:, number], known_costs)
                if self._counted and number == 0:
                    hyperparameters = at_least_binomial(hyperparameters, column, self._counted)
                models.append(Surrogate(hyperparameters, x, column, waiting))

        def expected(points: Points, costs: Floats) -> tuple[Floats, Floats]:
            """Mean and standard deviation (points, objectives)."""
            features = features_of(points, costs)
            predictions = [
                (model * costs, np.zeros(len(points))) if isinstance(model, float) else model(features)
                for model in models
            ]
            return np.stack([mean for mean, _ in predictions], 1), np.stack([std for _, std in predictions], 1)

        if len(models) == 1:
            model = models[0]
            best = float((reached[:, 0] if isinstance(model, float) else model.mean(x))[rivals].max())

            def improvement(points: Points, costs: Floats) -> Floats:
                mean, deviation = expected(points, costs)
                return log_expected_improvement(mean[:, 0], np.maximum(deviation[:, 0], 1e-9), best)

            return improvement
        scale = np.maximum(np.ptp(reached, axis=0), 1e-12)
        worst = np.concatenate([reached, expected(*sample)[0]]).min(axis=0)
        reference, front = worst / scale - MARGIN, reached[rivals][nondominated(reached[rivals])] / scale

        def gain(points: Points, costs: Floats) -> Floats:
            mean, deviation = expected(points, costs)
            optimistic = (mean + OPTIMISM * deviation) / scale
            # points that add nothing are ordered by their distance to the front
            behind = (front[None] - optimistic[:, None]).max(axis=2).min(axis=1)
            gained = hypervolume_improvement(optimistic, front, reference)
            return np.log(np.maximum(gained, MIN_GAIN)) - np.maximum(0, behind)

        return gain


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _scores(merit: Merit, points: Points, costs: Floats, log_chance: Floats) -> Floats:
    """Each point's merit times its chance to be within the budget, as logarithms; -inf for a negligible chance."""
    scores = np.full(len(points), -np.inf)
    likely = log_chance > MIN_LOG_CHANCE
    if likely.any():
        scores[likely] = merit(points[likely], costs[likely]) + log_chance[likely]
    return scores


def _unknown(points: Points) -> tuple[Floats, Floats]:
    """Costs of points where none is known: every point counts as within the budget."""
    return np.full(len(points), np.nan), np.zeros(len(points))


def _milestone(count: int) -> int:
    """The largest number up to `count` in a series that grows by GROWTH; models are fitted at these numbers."""
    last = STARTUP
    while last * GROWTH + 1 <= count:
        last = int(last * GROWTH + 1)
    return last
