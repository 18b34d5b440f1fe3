"""Intersection over union: a case worked by hand, and the properties of the measure."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnas.metrics.segmentation import confusion, segmentation_scores

TRUTH = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 255], [2, 2, 255, 255]])
PREDICTED = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 2], [2, 1, 0, 1]])
# by hand, of the 9 pixels that count: class 0: 3 of 5, class 1: 2 of 5, class 2: 1 of 2; 6 are right


def test_golden() -> None:
    matrix = confusion(PREDICTED, TRUTH, 5)
    assert matrix[:3, :3].tolist() == [[3, 1, 0], [1, 2, 0], [0, 1, 1]] and int(matrix.sum()) == 9
    scores = segmentation_scores(matrix)
    assert scores.iou[:3] == (pytest.approx(3 / 5), pytest.approx(2 / 5), pytest.approx(1 / 2))
    assert all(map(math.isnan, scores.iou[3:])), "classes that neither occur nor were predicted"
    assert scores.miou == pytest.approx((3 / 5 + 2 / 5 + 1 / 2) / 3)
    assert scores.pixel_accuracy == pytest.approx(6 / 9)


def test_a_class_that_is_predicted_but_not_there_counts() -> None:
    scores = segmentation_scores(confusion(torch.tensor([0, 1, 3]), torch.tensor([0, 1, 1]), 4))
    assert scores.iou[3] == 0 and math.isnan(scores.iou[2])
    assert scores.miou == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_the_ignored_index_may_be_a_class() -> None:
    scores = segmentation_scores(confusion(PREDICTED, torch.where(TRUTH == 255, 0, TRUTH), 3, ignore_index=0))
    assert scores.iou[0] == 0, "predicted where others are, never to be found"
    assert scores.iou[1:] == (pytest.approx(2 / 4), pytest.approx(1 / 2))


def test_nothing_to_count() -> None:
    scores = segmentation_scores(confusion(PREDICTED, torch.full_like(TRUTH, 255), 3))
    assert math.isnan(scores.miou) and math.isnan(scores.pixel_accuracy)


def test_wrong_indices_are_refused() -> None:
    for predicted, truth in ((PREDICTED, TRUTH + 1), (PREDICTED - 1, TRUTH), (PREDICTED[:2], TRUTH)):
        with pytest.raises(ValueError):
            confusion(predicted, truth, 3)


@given(st.integers(2, 6), st.integers(0, 2**31), st.integers(1, 50))
def test_matrices_of_batches_may_be_added(classes: int, seed: int, pixels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, predicted = torch.randint(classes, (2, pixels), generator=generator)
    whole = confusion(predicted, truth, classes)
    parts = [confusion(a, b, classes) for a, b in zip(predicted.split(7), truth.split(7), strict=True)]
    assert whole.equal(torch.stack(parts).sum(0))
    scores = segmentation_scores(whole)
    assert 0 <= scores.miou <= 1 and scores.pixel_accuracy == pytest.approx(float((truth == predicted).double().mean()))
    assert segmentation_scores(confusion(truth, truth, classes)).miou == 1


def test_as_torchmetrics_has_it() -> None:
    """torchmetrics 1.9.0, multiclass_jaccard_index (macro) and multiclass_accuracy (micro) with ignore_index=255."""
    truth = torch.arange(400).view(20, 20) * 7 % 11 % 6
    predicted = torch.arange(400).view(20, 20) * 5 % 13 % 6
    truth[:3] = 255
    truth[truth == 4], predicted[predicted >= 4] = 3, 2  # 4 nowhere, 5 in the truth alone
    scores = segmentation_scores(confusion(predicted, truth, 7))
    assert scores.miou == pytest.approx(0.09175457) and scores.pixel_accuracy == pytest.approx(0.20588236)
    assert scores.iou[:4] == pytest.approx((0.10236221, 0.07476635, 0.15343915, 0.12820514), rel=1e-6)
    assert [math.isnan(one) for one in scores.iou[4:]] == [True, False, True]
