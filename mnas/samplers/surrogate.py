"""What finished trials say of points that were not tried: a Gaussian process over choices."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_ndtr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel
from sklearn.linear_model import RidgeCV

from mnas.samplers.choices import Choice, Points

Floats = NDArray[np.float64]

MOST_FITTED = 120
"""Values that the hyperparameters are fitted to; predictions use all."""
STEPS = 20
LEAST_NOISE = 1e-5
MOST_ONE_HOT = 12
"""Options of an ordered choice of which each is a feature."""


class Features:
    """Points as numbers: each choice's option (one-hot) and, where options have an order, its position; the cost."""

    def __init__(self, choices: Sequence[Choice]):
        tables = [_table(choice) for choice in choices]
        options, width = (max(table.shape[axis] for table in tables) for axis in (0, 1))
        # ABSENT, -1, is the last option, of zeros
        self._tables = np.zeros((len(tables), options + 1, width))
        for index, table in enumerate(tables):
            self._tables[index, : table.shape[0], : table.shape[1]] = table
        self._each = np.arange(len(tables))
        self._scale: Scale | None = None
        self.owner = np.repeat(self._each, width)
        """The choice of each feature; the cost's is one more."""

    def beside(self, costs: Floats) -> Features:
        """The same with a feature for the cost, as those of some points (n,) are spread; NaN where one is not known.

        Where none is known, or all are equal, they are no feature.
        """
        known = costs[np.isfinite(costs)]
        if not known.size or np.ptp(known) == 0:
            return self
        scaled = copy.copy(self)
        scaled._scale, scaled.owner = Scale(known), np.append(self.owner, len(self._each))
        return scaled

    def of_choices(self, points: Points) -> Floats:
        """(n, choices) -> (n, features), without the cost."""
        return np.asarray(self._tables[self._each, points].reshape(len(points), self._tables[:, 0].size))

    def __call__(self, points: Points, costs: Floats) -> Floats:
        """(n, choices) and (n,) -> (n, features)."""
        features = self.of_choices(points)
        if self._scale is None:
            return features
        return np.column_stack([features, np.nan_to_num(self._scale(costs))])


class Scale:
    """Values as they are learned: logarithms where all are positive, then mean 0 and deviation 1."""

    def __init__(self, values: Floats):
        self._log = bool((values > 0).all())
        plain = np.log(values) if self._log else values
        self._mean, self._deviation = float(plain.mean()), float(plain.std()) or 1.0

    def __call__(self, values: Floats) -> Floats:
        plain = np.log(np.maximum(values, np.finfo(float).tiny)) if self._log else values
        return np.asarray((plain - self._mean) / self._deviation)

    def inverse(self, scaled: Floats) -> Floats:
        plain = scaled * self._deviation + self._mean
        return np.asarray(np.exp(plain) if self._log else plain)


class CostModel:
    """About what points cost, from some that were asked for: the logarithm is nearly a sum over choices."""

    def __init__(self, features: Floats, costs: Floats):
        known = np.isfinite(costs)
        self._scale = Scale(costs[known])
        self._model = RidgeCV(alphas=(1e-3, 1e-2, 1e-1), store_cv_results=True)
        self._model.fit(features[known], self._scale(costs[known]))
        self._error = math.sqrt(self._model.cv_results_.mean(axis=0).min())
        """Of points left out."""

    def __call__(self, features: Floats) -> Floats:
        # what its predict() computes, which checks the features for longer than that takes
        return self._scale.inverse(features @ self._model.coef_ + self._model.intercept_)

    def log_chance(self, costs: Floats, budget: float) -> Floats:
        """The logarithm of the chance that what was predicted to cost so much is within the budget."""
        return np.asarray(log_ndtr((self._scale(np.array(budget)) - self._scale(costs)) / max(self._error, 1e-6)))


def _table(choice: Choice) -> Floats:
    """(options, features): which option (two of them are 1 apart), and where it lies if options have an order."""
    count, positions = len(choice.options), choice.positions
    parts = []
    if positions is None or count <= MOST_ONE_HOT:
        parts.append(math.sqrt(0.5) * np.eye(count))
    if positions is not None and count > 2:
        parts.append(positions[:, None])
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Hyperparameters:
    """k(a, b) = linear * <a, b> + smooth * exp(-|a - b|^2 / 2), of features times their choice's scale; and noise."""

    scales: Floats
    linear: float
    smooth: float
    noise: float
    doubt: float
    """By how much errors exceed what the model expects of itself: its scales were fitted to few values."""


class ChoiceKernel(Kernel):  # type: ignore[misc]
    """What choices add up to, and what they make together, for scikit-learn; its own are sums of slower parts."""

    def __init__(self, linear: float, smooth: float):
        self.linear, self.smooth = linear, smooth

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Floats:
        # half the time of a proposal is spent here, so candidates in single precision, and in place; what is factorised
        # in double, since rounding errors would make it indefinite where there is hardly any noise
        precision = np.dtype(np.float64 if Y is None else np.float32)
        x, y = X.astype(precision), (X if Y is None else Y).astype(precision)
        gram = x @ y.T
        near = gram - 0.5 * (x**2).sum(1)[:, None]
        near -= 0.5 * (y**2).sum(1)
        np.exp(near, out=near)
        near *= self.smooth
        gram *= self.linear
        gram += near
        return gram.astype(np.float64)

    def diag(self, X: Floats) -> Floats:
        return self.linear * (X**2).sum(1) + self.smooth

    def is_stationary(self) -> bool:
        return False


class Standard:
    """Values as they are learned: mean 0, deviation 1; far outliers below (networks that diverged) are brought near."""

    def __init__(self, values: Floats):
        largest = float(np.abs(values).max()) or 1.0  # no square of it may overflow
        low, middle = np.quantile(values / largest, [0.25, 0.5])
        floor = middle - 5 * max(middle - low, 1e-12) if middle > low else -1.0
        near = np.maximum(values / largest, floor)
        self.zero, self.unit = float(near.mean()), float(near.std()) or 1.0
        self.values = (near - self.zero) / self.unit
        self.zero, self.unit = self.zero * largest, self.unit * largest


def spread(order: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Of indices in order, at most so many: the first ones, as half of them, and evenly spaced ones of the rest."""
    if len(order) <= most:
        return order
    half = most // 2
    return np.concatenate([order[:half], order[np.linspace(half, len(order) - 1, most - half).astype(int)]])


def fitted(features: Floats, owner: NDArray[np.int64], values: Floats) -> Hyperparameters:
    """The hyperparameters of greatest posterior density."""
    kept = np.sort(spread(np.argsort(-values, kind="stable"), MOST_FITTED))
    features, values = features[kept], values[kept]
    x, y = torch.from_numpy(features), torch.from_numpy(Standard(values).values)
    of, count = torch.from_numpy(owner), int(owner.max()) + 1
    start = torch.zeros(count + 3, dtype=torch.float64)
    # two random points are about 1 apart
    start[:count] = 0.5 * math.log(2.0 / count)
    start[count:] = torch.tensor([0.5, 0.5, 0.02], dtype=torch.float64).log()
    # of many choices, few values cannot say how much each one matters
    doubts = torch.tensor([min(1.0, 4 / math.sqrt(count))] * count + [1.0, 1.0, 1.5], dtype=torch.float64)
    eye = torch.eye(len(y), dtype=torch.float64)

    def logarithms(free: torch.Tensor) -> torch.Tensor:
        return start + 3 * doubts * torch.tanh(free / 3)  # a line search may try anything

    def covariance(logs: torch.Tensor) -> torch.Tensor:
        scaled = x * logs[:count].exp()[of]
        linear, smooth, noise = logs[count:].exp()
        gram = scaled @ scaled.T
        size = gram.diagonal()
        near = torch.exp(gram - 0.5 * (size[:, None] + size[None, :]))
        return linear * gram + smooth * near + (noise + LEAST_NOISE) * eye

    def loss(tried: Floats) -> tuple[float, Floats]:
        """And its gradient."""
        free = torch.from_numpy(tried).requires_grad_()
        logs = logarithms(free)
        model = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance(logs), validate_args=False)
        value = 0.5 * (((logs - start) / doubts) ** 2).sum() - model.log_prob(y)  # type: ignore[no-untyped-call]
        (gradient,) = torch.autograd.grad(value, free)
        return float(value.detach()), gradient.numpy()

    found = start
    with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        # torch's own L-BFGS takes seconds to import the first time
        best = minimize(loss, np.zeros(len(start)), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
        found = logarithms(torch.from_numpy(best)) if np.isfinite(best).all() else start
    linear, smooth, noise = found[count:].exp().tolist()
    doubt = math.sqrt(1 + count / len(y))
    return Hyperparameters(found[:count].exp().numpy()[owner], linear, smooth, noise + LEAST_NOISE, doubt)


class Surrogate:
    """A Gaussian process of values (n,) at features (n, f), and at `waiting` ones of what it expects there."""

    def __init__(self, hyper: Hyperparameters, features: Floats, values: Floats, waiting: Floats):
        self._hyper, self._standard = hyper, Standard(values)
        learned = self._standard.values
        self._model = self._fit(features, learned)
        if len(waiting):
            expected = self._model.predict(waiting * hyper.scales)
            self._model = self._fit(np.concatenate([features, waiting]), np.concatenate([learned, expected]))

    def _fit(self, features: Floats, values: Floats) -> GaussianProcessRegressor:
        kernel = ChoiceKernel(self._hyper.linear, self._hyper.smooth)
        model = GaussianProcessRegressor(kernel, alpha=self._hyper.noise, optimizer=None)
        return model.fit(features * self._hyper.scales, values)

    def mean(self, features: Floats) -> Floats:
        """Mean (n,) at features (n, f)."""
        mean = self._model.predict(features * self._hyper.scales)
        return np.asarray(mean * self._standard.unit + self._standard.zero)

    def __call__(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (n,) at features (n, f)."""
        mean, deviation = self._model.predict(features * self._hyper.scales, return_std=True)
        unit, zero = self._standard.unit, self._standard.zero
        return mean * unit + zero, deviation * unit * self._hyper.doubt
