"""The jackknife: pseudo-values of means are the values; of mIoU and mAP their mean is about the figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mnas.data.dense.samples import boxes_of
from mnas.metrics.detection import detection_scores, scores_with_parts
from mnas.metrics.jackknife import MOST_GROUPS, groups_of, pseudo_values, variance_of_mean
from mnas.metrics.segmentation import parts_of_miou, segmentation_scores
from mnas.nn.detection import Detections


def test_of_a_mean_they_are_the_values() -> None:
    values = np.asarray([0.1, 0.5, 0.4, 0.9])
    without = [float(np.delete(values, i).mean()) for i in range(4)]
    parts = pseudo_values(float(values.mean()), without)
    np.testing.assert_allclose(parts, values)
    assert variance_of_mean(parts) == pytest.approx(np.var(values, ddof=1) / 4)
    assert variance_of_mean(parts[:1]) == math.inf


def test_groups() -> None:
    assert [groups_of(images) for images in (0, 7, 5000)] == [0, 7, MOST_GROUPS]


def test_of_the_miou() -> None:
    matrices = torch.randint(0, 50, (6, 3, 3), generator=torch.Generator().manual_seed(0))
    parts, miou = parts_of_miou(matrices), segmentation_scores(matrices.sum(0)).miou
    without = [segmentation_scores(matrices[[row for row in range(6) if row != i]].sum(0)).miou for i in range(6)]
    np.testing.assert_allclose(parts, [6 * miou - 5 * one for one in without])
    assert parts.mean() == pytest.approx(miou, abs=0.02)


def test_of_the_map() -> None:
    rng = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(5):
        corners = rng.uniform(0, 40, (3, 2))
        boxes, labels = np.concatenate([corners, corners + rng.uniform(5, 20, (3, 2))], 1), rng.integers(1, 3, 3)
        truth.append(boxes_of(boxes, labels))
        moved = torch.from_numpy(boxes + rng.uniform(-2, 2, (3, 4))).float()
        found.append(Detections(moved, torch.from_numpy(rng.uniform(0, 1, 3)), torch.from_numpy(labels)))
    scores, parts = scores_with_parts(found, truth, 2)
    assert scores == detection_scores(found, truth, 2)
    without = [
        detection_scores([*found[:i], *found[i + 1 :]], [*truth[:i], *truth[i + 1 :]], 2).map for i in range(5)
    ]
    np.testing.assert_allclose(parts, [5 * scores.map - 4 * one for one in without])
