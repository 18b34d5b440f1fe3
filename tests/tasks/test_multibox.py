"""SSD's loss is torchvision's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from references import reference
from torch import Tensor

from mnas.data.dense.samples import Boxes
from mnas.nn.boxes import default_boxes, encode
from mnas.tasks.multibox import NOTHING, matched, multibox_loss

CLASSES = 6
MAPS, SIZE = [(8, 8), (4, 4), (2, 2), (1, 1)], (64, 64)
DEFAULTS = default_boxes(MAPS, SIZE)


def objects(boxes: Any, labels: Any) -> Boxes:
    tensor = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return Boxes(tensor, torch.tensor(labels, dtype=torch.int64), torch.zeros(len(labels), dtype=torch.bool))


TRUTHS = [
    objects([[3, 5, 30, 40], [20, 20, 60, 62], [1, 1, 6, 5]], [1, 4, 5]),
    objects([], []),  # nothing in the image
    objects([[30, 2, 50, 63]], [2]),
    objects([[3, 5, 30, 40], [4, 6, 31, 41]], [3, 3]),  # nearly the same place
]


def outputs(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(TRUTHS), len(DEFAULTS), CLASSES, generator=generator)
    return scores.requires_grad_(), torch.randn(len(TRUTHS), len(DEFAULTS), 4, generator=generator).requires_grad_()


@pytest.mark.parametrize("seed", range(3))
def test_torchvisions_loss_and_gradients(seed: int) -> None:
    detection = reference("torchvision").models.detection
    theirs = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES)
    truths = [{"boxes": one.boxes, "labels": one.labels} for one in TRUTHS]
    pairs = [
        theirs.proposal_matcher(_iou(one.boxes, DEFAULTS)) if len(one.boxes)
        else torch.full((len(DEFAULTS),), -1, dtype=torch.int64)
        for one in TRUTHS
    ]  # fmt: skip
    for one, found in zip(TRUTHS, pairs, strict=True):
        assert torch.equal(matched(one.boxes, DEFAULTS), found)
    scores, offsets = outputs(seed)
    heads = {"cls_logits": scores, "bbox_regression": offsets}
    expected = sum(theirs.compute_loss(truths, heads, [DEFAULTS] * len(TRUTHS), pairs).values())
    expected_gradients = torch.autograd.grad(expected, [scores, offsets], retain_graph=True)
    loss = multibox_loss(scores, offsets, DEFAULTS, TRUTHS)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, wanted in zip(torch.autograd.grad(loss, [scores, offsets]), expected_gradients, strict=True):
        torch.testing.assert_close(ours, wanted)


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    overlaps: Tensor = reference("torchvision").ops.box_iou(boxes, others)
    return overlaps


def test_every_object_is_found() -> None:
    tiny = objects([[1, 1, 3, 3], [60, 60, 63, 63]], [1, 2])  # no default box overlaps them by half
    found = matched(tiny.boxes, DEFAULTS)
    assert sorted(set(found.tolist())) == [NOTHING, 0, 1]
    assert (found >= 0).sum() == 2


def test_perfect_outputs_cost_nothing() -> None:
    found = matched(TRUTHS[0].boxes, DEFAULTS)
    labels = torch.where(found >= 0, TRUTHS[0].labels[found.clamp(min=0)], 0)
    scores = 100 * torch.nn.functional.one_hot(labels, CLASSES).float()
    offsets = encode(TRUTHS[0].boxes[found.clamp(min=0)], DEFAULTS)
    assert multibox_loss(scores[None], offsets[None], DEFAULTS, TRUTHS[:1]).item() == pytest.approx(0, abs=1e-5)


def test_images_of_nothing_are_no_division_by_zero() -> None:
    scores, offsets = outputs(0)
    assert multibox_loss(scores[1:2], offsets[1:2], DEFAULTS, TRUTHS[1:2]).item() == 0
