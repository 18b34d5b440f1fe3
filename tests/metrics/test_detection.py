"""Mean average precision: perfect, empty, worked by hand, and as pycocotools has it by its own way."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from mnas.data.dense import shapes
from mnas.data.dense.geometry import fitting, inverse, moved
from mnas.data.dense.samples import WHOLE, Boxes, boxes_of
from mnas.errors import MissingDependency
from mnas.metrics.detection import detection_scores
from mnas.nn.detection import Detections

needs_pycocotools = pytest.mark.usefixtures("pycocotools")


@pytest.fixture
def pycocotools() -> None:
    pytest.importorskip("pycocotools")


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(torch.tensor(boxes).view(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


def true(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> Boxes:
    return boxes_of(np.array(boxes).reshape(-1, 4), np.array(labels), None if crowd is None else np.array(crowd))


def perfect(truth: Boxes) -> Detections:
    return Detections(truth.boxes, torch.ones(len(truth.labels)), truth.labels)


@needs_pycocotools
def test_perfect_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    truth = [scene.boxes for scene in shapes.render(20, 0)]
    scores = detection_scores([perfect(one) for one in truth], truth, 5)
    assert [scores.map, scores.map_50, scores.map_75] == pytest.approx([1, 1, 1])
    assert scores.ap[:4] == pytest.approx((1, 1, 1, 1)) and math.isnan(scores.ap[4])
    assert capsys.readouterr().out == ""


@needs_pycocotools
def test_nothing_found_and_nothing_there() -> None:
    truth, nothing = true([[0, 0, 10, 10]], [1]), found([], [], [])
    assert detection_scores([nothing, nothing], [truth, true([], [])], 2).map == 0
    scores = detection_scores([found([[0, 0, 5, 5]], [0.9], [1])], [true([], [])], 2)
    assert math.isnan(scores.map) and all(map(math.isnan, scores.ap))
    assert math.isnan(detection_scores([], [], 2).map)


@needs_pycocotools
def test_golden() -> None:
    """By hand: two objects; one is found with an overlap of 0.8, after a wrong box that is surer.

    At overlaps up to 0.8, precision is 1/2 up to a recall of 1/2, which are 51 of 101 recalls; above, 0.
    """
    truth = true([[0, 0, 10, 10], [50, 50, 60, 60]], [1, 1])
    one = found([[0, 0, 10, 8], [80, 80, 90, 90]], [0.6, 0.9], [1, 1])
    scores = detection_scores([one], [truth], 1)
    each = 0.5 * 51 / 101
    assert scores.map_50 == pytest.approx(each) and scores.map_75 == pytest.approx(each)
    assert scores.map == pytest.approx(each * 7 / 10)
    surer = detection_scores([found([[0, 0, 10, 8], [80, 80, 90, 90]], [0.9, 0.6], [1, 1])], [truth], 1)
    assert surer.map_50 == pytest.approx(51 / 101)
    wrong_label = detection_scores([found([[0, 0, 10, 10]], [0.9], [2])], [true([[0, 0, 10, 10]], [1])], 2)
    assert wrong_label.ap[0] == 0 and wrong_label.map == 0


@needs_pycocotools
def test_a_crowd_is_neither_missed_nor_wrong() -> None:
    truth = true([[0, 0, 10, 10], [20, 20, 80, 80]], [1, 1], [False, True])
    one = found([[0, 0, 10, 10], [30, 30, 40, 40], [50, 50, 60, 60]], [0.5, 0.9, 0.8], [1, 1, 1])
    assert detection_scores([one], [truth], 1).map == pytest.approx(1)
    plain = true([[0, 0, 10, 10], [20, 20, 80, 80]], [1, 1])
    assert detection_scores([one], [plain], 1).map < 0.5


@needs_pycocotools
def test_equals_the_libraries_own_way() -> None:
    """COCO's json, loadRes and summarize."""
    truth = [scene.boxes for scene in shapes.render(30, 1)]
    generator = torch.Generator().manual_seed(0)
    guesses = [_disturbed(one, generator) for one in truth]
    scores = detection_scores(guesses, truth, 4)
    assert 0.2 < scores.map < 0.9
    coco = importlib.import_module("pycocotools.coco").COCO()
    rows = [
        {"image_id": i, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
         "iscrowd": 0}
        for i, one in enumerate(truth) for (x1, y1, x2, y2), label in zip(one.boxes.tolist(), one.labels, strict=True)
    ]  # fmt: skip
    coco.dataset = {
        "info": {}, "images": [{"id": i} for i in range(30)], "categories": [{"id": i} for i in range(1, 5)],
        "annotations": [{"id": i + 1, **row} for i, row in enumerate(rows)],
    }  # fmt: skip
    results = [
        {"image_id": i, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(score)}
        for i, one in enumerate(guesses)
        for (x1, y1, x2, y2), label, score in zip(one.boxes.tolist(), one.labels, one.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = importlib.import_module("pycocotools.cocoeval").COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    wanted: list[float] = evaluation.stats[:3].tolist()
    assert [scores.map, scores.map_50, scores.map_75] == pytest.approx(wanted)


def _disturbed(truth: Boxes, generator: torch.Generator) -> Detections:
    """Its boxes a little beside where they are, and some that are wrong."""
    noise: Tensor = 4 * torch.randn(len(truth.labels), 4, generator=generator)
    boxes = torch.cat([truth.boxes + noise, torch.tensor([[5.0, 5, 30, 40]])])
    labels = torch.cat([truth.labels, torch.tensor([2])])
    return Detections(boxes, torch.rand(len(labels), generator=generator), labels)


@needs_pycocotools
def test_the_same_in_the_pixels_of_the_network() -> None:
    """Overlaps are the same in images that are fitted into another shape, and back."""
    truth = [scene.boxes for scene in shapes.render(10, 2)]
    generator = torch.Generator().manual_seed(0)
    guesses = [_disturbed(one, generator) for one in truth]
    way = fitting(96, 96, (64, 160), WHOLE)
    there = [Detections(moved(one.boxes, way), one.scores, one.labels) for one in guesses]
    back = [Detections(moved(one.boxes, inverse(way)), one.scores, one.labels) for one in there]
    fitted = [Boxes(moved(one.boxes, way), one.labels, one.crowd) for one in truth]
    scores = detection_scores(guesses, truth, 4)
    assert detection_scores(there, fitted, 4).map == pytest.approx(scores.map, abs=1e-3)
    assert detection_scores(back, truth, 4).map == pytest.approx(scores.map, abs=1e-3)


def test_without_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"pip install 'mnas\[detection\]'") as caught:
        detection_scores([], [], 1)
    assert caught.value.exit_code == 2


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 images"):
        detection_scores([found([], [], [])], [], 1)
