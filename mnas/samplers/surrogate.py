"""What finished trials say of points that were not tried: a Gaussian process over choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

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

    def __init__(self, choices: Sequence[Choice], costs: Callable[[Points], Floats] | None, rows: Points):
        self._tables = [_table(choice) for choice in choices]
        self._costs = None
        widths = [table.shape[1] for table in self._tables]
        if costs is not None and (known := costs(rows))[np.isfinite(known)].size:
            known = known[np.isfinite(known)]
            log = bool((known > 0).all())
            known = np.log(known) if log else known
            self._mean, self._span = known.mean(), known.std() or 1.0
            self._costs, self._log = costs, log
            widths.append(1)
        self.owner = np.repeat(np.arange(len(widths)), widths)
        """The choice of each feature; the cost's is one more."""

    def __call__(self, points: Points) -> Floats:
        # ABSENT, -1, is the last row of a table: zeros
        parts = [table[points[:, index]] for index, table in enumerate(self._tables)]
        if self._costs is not None:
            costs = self._costs(points)
            costs = np.log(np.maximum(costs, 1e-300)) if self._log else costs
            parts.append(np.nan_to_num((costs - self._mean) / self._span)[:, None])
        return np.concatenate(parts, axis=1)


def _table(choice: Choice) -> Floats:
    """(options + 1, features): which option (two of them are 1 apart), and where it lies if options have an order."""
    count, positions = len(choice.options), choice.positions
    parts = []
    if positions is None or count <= MOST_ONE_HOT:
        parts.append(math.sqrt(0.5) * np.eye(count))
    if positions is not None and count > 2:
        parts.append(positions[:, None])
    table = np.concatenate(parts, axis=1)
    return np.concatenate([table, np.zeros((1, table.shape[1]))])


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
        Y = X if Y is None else Y
        gram = X @ Y.T
        near = np.exp(gram - 0.5 * (X**2).sum(1)[:, None] - 0.5 * (Y**2).sum(1))
        return self.linear * gram + self.smooth * near

    def diag(self, X: Floats) -> Floats:
        return self.linear * (X**2).sum(1) + self.smooth

    def is_stationary(self) -> bool:
        return False


def standardised(values: Floats) -> Floats:
    """Mean 0, deviation 1, after far outliers below (networks that diverged) are brought near."""
    low, middle = np.quantile(values, [0.25, 0.5])
    values = np.maximum(values, middle - 5 * max(middle - low, 1e-12)) if middle > low else values
    return (values - values.mean()) / (values.std() or 1.0)


def fitted(features: Floats, owner: NDArray[np.int64], values: Floats) -> Hyperparameters:
    """The hyperparameters of greatest posterior density."""
    if len(values) > MOST_FITTED:
        order = np.argsort(-values, kind="stable")
        third = MOST_FITTED // 3
        others = np.linspace(third, len(order) - 1, MOST_FITTED - third).astype(int)
        kept = np.sort(np.concatenate([order[:third], order[others]]))
        features, values = features[kept], values[kept]
    x, y = torch.from_numpy(features), torch.from_numpy(standardised(values))
    of, count = torch.from_numpy(owner), int(owner.max()) + 1
    start = torch.zeros(count + 3, dtype=torch.float64)
    # two random points are about 1 apart
    start[:count] = 0.5 * math.log(2.0 / count)
    start[count:] = torch.tensor([0.5, 0.5, 0.02], dtype=torch.float64).log()
    spread = torch.tensor([1.0] * count + [1.0, 1.0, 1.5], dtype=torch.float64)
    free = torch.zeros_like(start).requires_grad_()
    eye = torch.eye(len(y), dtype=torch.float64)
    optimizer = torch.optim.LBFGS([free], max_iter=STEPS, line_search_fn="strong_wolfe")

    def logarithms() -> torch.Tensor:
        return start + 3 * spread * torch.tanh(free / 3)  # a line search may try anything

    def covariance(logs: torch.Tensor) -> torch.Tensor:
        scaled = x * logs[:count].exp()[of]
        linear, smooth, noise = logs[count:].exp()
        gram = scaled @ scaled.T
        size = gram.diagonal()
        near = torch.exp(gram - 0.5 * (size[:, None] + size[None, :]))
        return linear * gram + smooth * near + (noise + LEAST_NOISE) * eye

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logs = logarithms()
        model = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance(logs), validate_args=False)
        value = 0.5 * (((logs - start) / spread) ** 2).sum() - model.log_prob(y)  # type: ignore[no-untyped-call]
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = logarithms().detach() if bool(torch.isfinite(free).all()) else start
    linear, smooth, noise = found[count:].exp().tolist()
    doubt = math.sqrt(1 + count / len(y))
    return Hyperparameters(found[:count].exp().numpy()[owner], linear, smooth, noise + LEAST_NOISE, doubt)


class Surrogate:
    """A Gaussian process of values (n,) at features (n, f), and at `waiting` ones of what it expects there."""

    def __init__(self, hyper: Hyperparameters, features: Floats, values: Floats, waiting: Floats):
        self._hyper = hyper
        clipped = standardised(values)
        # back to the values' own units by what is not an outlier
        self._unit, self._zero = map(float, np.polyfit(clipped, values, 1) if np.ptp(clipped) > 0 else (1.0, values[0]))
        self._model = self._fit(features, clipped)
        if len(waiting):
            expected = self._model.predict(waiting * hyper.scales)
            self._model = self._fit(np.concatenate([features, waiting]), np.concatenate([clipped, expected]))

    def _fit(self, features: Floats, values: Floats) -> GaussianProcessRegressor:
        kernel = ChoiceKernel(self._hyper.linear, self._hyper.smooth)
        model = GaussianProcessRegressor(kernel, alpha=self._hyper.noise, optimizer=None)
        return model.fit(features * self._hyper.scales, values)

    def __call__(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (n,) at features (n, f)."""
        mean, deviation = self._model.predict(features * self._hyper.scales, return_std=True)
        return mean * self._unit + self._zero, deviation * abs(self._unit) * self._hyper.doubt
