"""Intersection over union and pixel accuracy, from a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mnas.metrics.jackknife import pseudo_values


@dataclass(frozen=True)
class SegmentationScores:
    """How well classes were told apart, pixel by pixel."""

    miou: float
    """Mean of the classes' intersections over unions, without those that neither occur nor were predicted."""
    pixel_accuracy: float
    iou: tuple[float, ...]
    """Of each class; NaN where it neither occurs nor was predicted."""


def confusion(predicted: Tensor, truth: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Pixels int64 (num_classes, num_classes) by their true class (row) and the predicted one (column).

    `predicted` and `truth` are class indices of one shape; pixels whose truth is `ignore_index` do not count. Matrices
    of batches may be added. Raises ValueError for other indices, and for different shapes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions of shape {tuple(predicted.shape)} for a truth of {tuple(truth.shape)}")
    counted = truth != ignore_index
    rows, columns = truth[counted].long(), predicted[counted].long()
    for name, indices in (("truth", rows), ("predicted", columns)):
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < num_classes:
            raise ValueError(f"{name}: indices up to {int(indices.max())}; expected 0 to {num_classes - 1}")
    return (rows * num_classes + columns).bincount(minlength=num_classes**2).view(num_classes, num_classes)


def parts_of_miou(matrices: Tensor) -> NDArray[np.float64]:
    """Pseudo-values of the mIoU (see `mnas.metrics.jackknife`) from the confusion matrices (groups, classes, classes).

    The mIoU of no pixels counts 0.
    """
    whole = matrices.sum(0)
    miou, *without = np.nan_to_num([
        segmentation_scores(one).miou for one in (whole, *(whole - matrix for matrix in matrices))
    ]).tolist()  # fmt: skip
    return pseudo_values(miou, without)


def segmentation_scores(matrix: Tensor) -> SegmentationScores:
    """Scores from a confusion matrix (classes, classes); NaN for one of no pixels."""
    pixels = matrix.double()
    right, union = pixels.diagonal(), pixels.sum(0) + pixels.sum(1) - pixels.diagonal()
    iou = right / union  # 0 / 0 is NaN
    return SegmentationScores(float(iou.nanmean()), float(right.sum() / pixels.sum()), tuple(iou.tolist()))
