"""Average precision of detections as COCO defines it, computed by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mnas.errors import MissingDependency
from mnas.metrics.jackknife import groups_of, pseudo_values

PER_IMAGE = 100
"""Detections of an image that count, the best ones: COCO's number."""
NO_IMAGE = -1
"""In the place of an image that is left out."""


class Objects(Protocol):
    """The objects in an image."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4): x1, y1, x2, y2 in pixels."""

    @property
    def labels(self) -> Tensor:
        """(n,): from 1."""

    @property
    def crowd(self) -> Tensor:
        """bool (n,): no detection in these is wrong."""


class Found(Protocol):
    """Detections in an image, with their scores."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4): x1, y1, x2, y2 in pixels."""

    @property
    def labels(self) -> Tensor:
        """(n,): from 1."""

    @property
    def scores(self) -> Tensor:
        """(n,): the higher, the surer."""


@dataclass(frozen=True)
class DetectionScores:
    """Average precision; NaN where there are no objects."""

    map: float
    """Mean over classes and over overlaps of 0.5, 0.55, ..., 0.95: COCO's AP."""
    map_50: float
    """At an overlap (intersection over union) of 0.5 alone."""
    map_75: float
    ap: tuple[float, ...]
    """Of each class, over all overlaps; NaN where it does not occur."""


def detection_scores(found: Sequence[Found], truth: Sequence[Objects], num_classes: int) -> DetectionScores:
    """Scores of the detections in some images, given the objects in them, of labels 1 to `num_classes`.

    Boxes of an image must be in the same pixels. Raises MissingDependency, and ValueError for unequal numbers.
    """
    return _scores(_evaluated(found, truth, num_classes))


def scores_with_parts(
    found: Sequence[Found], truth: Sequence[Objects], num_classes: int
) -> tuple[DetectionScores, NDArray[np.float64]]:
    """`detection_scores`, and the pseudo-values of its map (see `mnas.metrics.jackknife`), where none counts 0."""
    evaluation = _evaluated(found, truth, num_classes)
    whole, params, groups = _scores(evaluation), copy.deepcopy(evaluation.params), groups_of(len(truth))
    without = []
    for group in range(groups):
        params.imgIds = [NO_IMAGE if row % groups == group else row for row in range(len(truth))]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate(params)
        without.append(_scores(evaluation).map)
    return whole, pseudo_values(float(np.nan_to_num(whole.map)), np.nan_to_num(without).tolist())


def _evaluated(found: Sequence[Found], truth: Sequence[Objects], num_classes: int) -> Any:
    """pycocotools' evaluation, accumulated over all images."""
    if len(found) != len(truth):
        raise ValueError(f"detections of {len(found)} images for the objects of {len(truth)}")
    coco, cocoeval = pycocotools("coco"), pycocotools("cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how long each step took
        sides = [_dataset(coco, images, num_classes) for images in (truth, found)]
        evaluation = cocoeval.COCOeval(*sides, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, math.inf]], ["all"]
        evaluation.params.maxDets = [PER_IMAGE]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _scores(evaluation: Any) -> DetectionScores:
    """The scores of the images over which an evaluation was accumulated last."""
    # (overlaps, recalls, classes): -1 where a class has no objects
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    precision = np.where(precision > -1, precision, np.nan)
    by_overlap = precision.mean(1)  # (overlaps, classes)
    overlaps = evaluation.params.iouThrs.round(2).tolist()
    at_50, at_75 = (by_overlap[overlaps.index(one)] for one in (0.5, 0.75))
    ap = by_overlap.mean(0)
    return DetectionScores(_mean(ap), _mean(at_50), _mean(at_75), tuple(ap.tolist()))


def pycocotools(module: str) -> Any:
    """A module of pycocotools. Raises MissingDependency."""
    try:
        return importlib.import_module(f"pycocotools.{module}")
    except ImportError as error:
        raise MissingDependency(
            f"the mean average precision needs pycocotools, which cannot be imported ({error}): "
            "pip install 'mnas[detection]', or pip install pycocotools"
        ) from error


def _dataset(coco: Any, images: Sequence[Any], num_classes: int) -> Any:
    """COCO's index of the boxes in images; detections have scores."""
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(images):
        boxes, labels = one.boxes.double().tolist(), one.labels.tolist()
        scores = one.scores.tolist() if hasattr(one, "scores") else [0.0] * len(labels)
        crowds = one.crowd.tolist() if hasattr(one, "crowd") else [False] * len(labels)
        for (x1, y1, x2, y2), label, score, crowd in zip(boxes, labels, scores, crowds, strict=True):
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label, "score": score,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": int(crowd),
            })  # fmt: skip
    dataset = coco.COCO()
    dataset.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": label} for label in range(1, num_classes + 1)], "annotations": annotations,
    }  # fmt: skip
    dataset.createIndex()
    return dataset


def _mean(values: Any) -> float:
    """The mean without NaN; NaN where there is nothing else."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else math.nan
