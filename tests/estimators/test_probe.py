"""The probe: a linear classifier on the features of trained weights, and what breaks them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from trainers import trainer

from mnas.config import Recipe
from mnas.data.sources import ImageData, load_data
from mnas.errors import BadInput
from mnas.estimators import never
from mnas.estimators.probe import RIDGE, ProbeEstimator, ridge
from mnas.nn.importance import sort_channels
from mnas.nn.origin import Origin
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.tasks.classification import Classification
from mnas.training.trainer import Trainer

ARCH = zoo.get("mobilenet_v3_small", 0.5, 32)


@pytest.fixture(scope="module")
def started(few: ImageData) -> Trainer:
    """A trainer whose networks start from one that was trained on few digits."""
    start = trainer(replace(few, val=load_data("digits").val))
    network = start.build(ARCH)
    for _ in start.fit(network, ARCH, Recipe(epochs=8, batch_size=32)):
        pass
    start.finish(network, ARCH, 320)
    sort_channels(network)
    return replace(start, origins=(Origin("trained", ARCH, network.eval()),))


def test_ridge_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(50, 8)), rng.integers(0, 3, 50)
    mean_square = ((x - x.mean(0)) ** 2).sum(1).mean()
    model = Ridge(alpha=RIDGE * mean_square).fit(x, np.eye(3)[labels])
    other = rng.normal(size=(5, 8))
    found = ridge(torch.from_numpy(x), torch.from_numpy(labels), 3)(torch.from_numpy(other))
    np.testing.assert_allclose(found.numpy(), model.predict(other), atol=1e-6)


def without_gates(arch: Architecture) -> Architecture:
    stages = tuple(tuple(replace(block, se=0, activation="relu") for block in row) for row in arch.stages)
    return replace(arch, stages=stages)


def test_broken_paths_cost_accuracy(started: Trainer) -> None:
    estimate = ProbeEstimator(started)
    own, broken = estimate(ARCH, never), estimate(without_gates(ARCH), never)
    fresh = Origin("fresh", ARCH, replace(started, origins=()).build(ARCH).eval())
    assert own > 0.7
    assert own > broken + 0.02
    assert ProbeEstimator(replace(started, origins=(fresh,)))(ARCH, never) < 0.6
    assert estimate(ARCH, never) == own
    assert estimate.fidelity == "probe" and estimate.images == len(started.data.val)


def test_trained_weights_are_needed(few: ImageData) -> None:
    with pytest.raises(BadInput):
        ProbeEstimator(trainer(few))


def test_balanced_accuracy_counts_classes_alike(started: Trainer) -> None:
    data = started.data
    zeros, ones = (np.flatnonzero(data.val.labels == label) for label in (0, 1))
    skewed = data.val.subset(np.concatenate([zeros, ones[:2]]))
    found = ProbeEstimator(replace(started, task=Classification(replace(data, val=skewed), "balanced")))(ARCH, never)
    plain = ProbeEstimator(replace(started, task=Classification(replace(data, val=skewed))))(ARCH, never)
    assert 0 < found <= 1 and 0 < plain <= 1
