"""The Gaussian process: how sure it is."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from layered_study import accuracy, studied

from mnas.samplers.choices import Choices
from mnas.samplers.surrogate import Features, Hyperparameters, Surrogate, at_least_binomial, fitted


def test_uncertainty_is_calibrated() -> None:
    """80% intervals of fresh points hold about so many of them, from few trials and from many."""
    rng = np.random.default_rng(0)
    choices = Choices()
    choices.learn(studied(optuna.samplers.RandomSampler(seed=1), 60).trials)
    every = choices.all()
    values = np.array([accuracy(choices.params(point)) for point in every]) + rng.normal(0, 0.5, len(every))
    for count in (15, 30, 60):
        inside = []
        for _ in range(8):
            order = rng.permutation(len(every))
            tried, others = order[:count], order[count:]
            describe = Features(list(choices.by_name.values()))
            x = describe.of_choices(every[tried])
            hyper = fitted(x, describe.owner, values[tried])
            mean, deviation = Surrogate(hyper, x, values[tried], x[:0])(describe.of_choices(every[others]))
            noise = math.sqrt(hyper.noise) * values[tried].std()
            spread = np.sqrt(deviation**2 + noise**2)
            inside.append(np.mean(np.abs(values[others] - mean) < 1.28 * spread))
        assert 0.65 < np.mean(inside) < 0.95, count


def test_shares_of_few_images_are_as_noisy_as_they_must_be() -> None:
    """Values that look alike to a model may differ by chance alone: 80% of 100 images is +- 4 points."""
    values = np.array([0.78, 0.80, 0.82, 0.80])
    known = Hyperparameters(np.ones(1), 0.5, 0.5, 1e-5, 1.0)
    noise = at_least_binomial(known, values, 100).noise
    assert noise == pytest.approx(0.8 * 0.2 / 100 / values.var(), rel=0.02)
    assert at_least_binomial(known, values, 10**9).noise == 1e-5, "and what was fitted where that is more"
