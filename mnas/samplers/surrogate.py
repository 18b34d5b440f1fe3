"""A Gaussian process over choices, fitted to finished trials; and a linear model of their costs."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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

MAX_FITTED = 120
"""Most values that hyperparameters are fitted to; predictions use all."""
STEPS = 20
MIN_NOISE = 1e-5
MAX_ONE_HOT = 12
"""Most options of an ordered choice that are each a feature of their own."""


class Features:
    """Points as features: each choice's option (one-hot), its position where options have an order, and the cost."""

    def __init__(self, choices: Sequence[Choice]):
        tables = [_table(choice) for choice in choices]
        options, width = (max(table.shape[axis] for table in tables) for axis in (0, 1))
        # ABSENT, -1, is the last row of a table: zeros
        self._tables = np.zeros((len(tables), options + 1, width))
        for index, table in enumerate(tables):
            self._tables[index, : table.shape[0], : table.shape[1]] = table
        self._choices = np.arange(len(tables))
        self._scale: Scale | None = None
        self.owner = np.repeat(self._choices, width)
        """The choice (features,) that each feature belongs to; the cost counts as one more choice."""

    def beside(self, costs: Floats) -> Features:
        """The same features and the cost, scaled like `costs` (n,), NaN where one is not known.

        The cost is left out where none is known or all are equal.
        """
        finite = costs[np.isfinite(costs)]
        if not finite.size or np.ptp(finite) == 0:
            return self
        scaled = copy.copy(self)
        scaled._scale, scaled.owner = Scale(finite), np.append(self.owner, len(self._choices))
        return scaled

    def of_choices(self, points: Points) -> Floats:
        """(n, choices) -> (n, features), without the cost."""
        return np.asarray(self._tables[self._choices, points].reshape(len(points), self._tables[:, 0].size))

    def __call__(self, points: Points, costs: Floats) -> Floats:
        """(n, choices) and (n,) -> (n, features)."""
        features = self.of_choices(points)
        if self._scale is None:
            return features
        return np.column_stack([features, np.nan_to_num(self._scale(costs))])


class Scale:
    """Scales values to mean 0 and standard deviation 1, after a logarithm where all are positive."""

    def __init__(self, values: Floats):
        self._log = bool((values > 0).all())
        plain = np.log(values) if self._log else values
        self._mean, self._deviation = float(plain.mean()), float(plain.std()) or 1.0

    def __call__(self, values: Floats) -> Floats:
        """Scaled values."""
        plain = np.log(np.maximum(values, np.finfo(float).tiny)) if self._log else values
        return np.asarray((plain - self._mean) / self._deviation)

    def inverse(self, scaled: Floats) -> Floats:
        """Values from scaled ones."""
        plain = scaled * self._deviation + self._mean
        return np.asarray(np.exp(plain) if self._log else plain)


class CostModel:
    """Predicts costs from some known ones by ridge regression: their logarithm is nearly a sum over choices."""

    def __init__(self, features: Floats, costs: Floats):
        finite = np.isfinite(costs)
        self._scale = Scale(costs[finite])
        self._model = RidgeCV(alphas=(1e-3, 1e-2, 1e-1), store_cv_results=True)
        self._model.fit(features[finite], self._scale(costs[finite]))
        self._error = math.sqrt(self._model.cv_results_.mean(axis=0).min())
        """Root mean square error (scaled) on points left out of the fit."""

    def __call__(self, features: Floats) -> Floats:
        """Predicted costs (n,) at features (n, f)."""
        # as predict() computes them; its validation takes longer than the computation
        return self._scale.inverse(features @ self._model.coef_ + self._model.intercept_)

    def log_chance(self, costs: Floats, budget: float) -> Floats:
        """Log of the chance (n,) that points with these predicted costs (n,) are within the budget."""
        return np.asarray(log_ndtr((self._scale(np.array(budget)) - self._scale(costs)) / max(self._error, 1e-6)))


def _table(choice: Choice) -> Floats:
    """Features of each option (options, features): one-hot (two options are 1 apart), and its position if ordered."""
    count, positions = len(choice.options), choice.positions
    parts = []
    if positions is None or count <= MAX_ONE_HOT:
        parts.append(math.sqrt(0.5) * np.eye(count))
    if positions is not None and count > 2:
        parts.append(positions[:, None])
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Hyperparameters:
    """k(a, b) = linear * <a, b> + smooth * exp(-|a - b|^2 / 2) of features times `scales`, and the noise's variance."""

    scales: Floats
    linear: float
    smooth: float
    noise: float
    inflation: float
    """Factor on predicted deviations, since scales that are fitted to few values underestimate them."""


class ChoiceKernel(Kernel):  # type: ignore[misc]
    """The kernel of `Hyperparameters` for scikit-learn, faster than a sum of scikit-learn's own kernels."""

    def __init__(self, linear: float, smooth: float):
        self.linear, self.smooth = linear, smooth

    def __call__(self, X: Floats, Y: Floats | None = None, eval_gradient: bool = False) -> Floats:
        # half of a proposal's time is spent here, so candidates are computed in place and in single precision; the
        # training points in double precision, since rounding errors could make their matrix indefinite
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
    """Values scaled to mean 0 and deviation 1; outliers far below (networks that diverged) are clipped first."""

    def __init__(self, values: Floats):
        largest = float(np.abs(values).max()) or 1.0  # no square of it may overflow
        low, median = np.quantile(values / largest, [0.25, 0.5])
        floor = median - 5 * max(median - low, 1e-12) if median > low else -1.0
        clipped = np.maximum(values / largest, floor)
        self.zero, self.unit = float(clipped.mean()), float(clipped.std()) or 1.0
        self.values = (clipped - self.zero) / self.unit
        self.zero, self.unit = self.zero * largest, self.unit * largest


def spread(order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the ordered indices: half of them the first ones, half evenly spaced ones of the rest."""
    if len(order) <= count:
        return order
    half = count // 2
    return np.concatenate([order[:half], order[np.linspace(half, len(order) - 1, count - half).astype(int)]])


def fitted(features: Floats, owner: NDArray[np.int64], values: Floats) -> Hyperparameters:
    """Hyperparameters of the largest posterior density; features (n, f) belong to the choices `owner` (f,)."""
    kept = np.sort(spread(np.argsort(-values, kind="stable"), MAX_FITTED))
    features, values = features[kept], values[kept]
    x, y = torch.from_numpy(features), torch.from_numpy(Standard(values).values)
    choice_of, count = torch.from_numpy(owner), int(owner.max()) + 1
    start = torch.zeros(count + 3, dtype=torch.float64)
    # two random points are about 1 apart
    start[:count] = 0.5 * math.log(2.0 / count)
    start[count:] = torch.tensor([0.5, 0.5, 0.02], dtype=torch.float64).log()
    # the prior's deviations: few values cannot show how much each of many choices matters
    deviations = torch.tensor([min(1.0, 4 / math.sqrt(count))] * count + [1.0, 1.0, 1.5], dtype=torch.float64)
    eye = torch.eye(len(y), dtype=torch.float64)

    def logarithms(free: torch.Tensor) -> torch.Tensor:
        return start + 3 * deviations * torch.tanh(free / 3)  # a line search may try anything

    def covariance(logs: torch.Tensor) -> torch.Tensor:
        scaled = x * logs[:count].exp()[choice_of]
        linear, smooth, noise = logs[count:].exp()
        gram = scaled @ scaled.T
        size = gram.diagonal()
        near = torch.exp(gram - 0.5 * (size[:, None] + size[None, :]))
        return linear * gram + smooth * near + (noise + MIN_NOISE) * eye

    def loss(point: Floats) -> tuple[float, Floats]:
        """Negative log posterior and its gradient."""
        free = torch.from_numpy(point).requires_grad_()
        logs = logarithms(free)
        model = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance(logs), validate_args=False)
        value = 0.5 * (((logs - start) / deviations) ** 2).sum() - model.log_prob(y)  # type: ignore[no-untyped-call]
        (gradient,) = torch.autograd.grad(value, free)
        return float(value.detach()), gradient.numpy()

    logs = start
    with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]
        # SciPy's L-BFGS: torch's own takes seconds to import
        best = minimize(loss, np.zeros(len(start)), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
        logs = logarithms(torch.from_numpy(best)) if np.isfinite(best).all() else start
    linear, smooth, noise = logs[count:].exp().tolist()
    inflation = math.sqrt(1 + count / len(y))
    return Hyperparameters(logs[:count].exp().numpy()[owner], linear, smooth, noise + MIN_NOISE, inflation)


def at_least_binomial(hyperparameters: Hyperparameters, values: Floats, counted: int) -> Hyperparameters:
    """With at least the noise of shares (n,) of `counted` images; values outside 0..1 count as the nearest share."""
    shares = np.clip(values, 0.0, 1.0)
    variance = float((shares * (1 - shares)).mean()) / counted
    noise = variance / Standard(values).unit ** 2
    return replace(hyperparameters, noise=max(hyperparameters.noise, noise))


class Surrogate:
    """A Gaussian process of values (n,) at features (n, f); `waiting` points (m, f) count as their expected values."""

    def __init__(self, hyperparameters: Hyperparameters, features: Floats, values: Floats, waiting: Floats):
        self._hyperparameters, self._standard = hyperparameters, Standard(values)
        learned = self._standard.values
        self._model = self._fit(features, learned)
        if len(waiting):
            expected = self._model.predict(waiting * hyperparameters.scales)
            self._model = self._fit(np.concatenate([features, waiting]), np.concatenate([learned, expected]))

    def _fit(self, features: Floats, values: Floats) -> GaussianProcessRegressor:
        kernel = ChoiceKernel(self._hyperparameters.linear, self._hyperparameters.smooth)
        model = GaussianProcessRegressor(kernel, alpha=self._hyperparameters.noise, optimizer=None)
        return model.fit(features * self._hyperparameters.scales, values)

    def mean(self, features: Floats) -> Floats:
        """Mean (n,) at features (n, f)."""
        mean = self._model.predict(features * self._hyperparameters.scales)
        return np.asarray(mean * self._standard.unit + self._standard.zero)

    def __call__(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (n,) at features (n, f)."""
        mean, deviation = self._model.predict(features * self._hyperparameters.scales, return_std=True)
        unit, zero = self._standard.unit, self._standard.zero
        return mean * unit + zero, deviation * unit * self._hyperparameters.inflation
