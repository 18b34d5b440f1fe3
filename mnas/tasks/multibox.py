"""SSD's loss (arXiv 1512.02325, section 2.2), as torchvision's SSD computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mnas.data.dense.samples import Boxes
from mnas.nn.boxes import encode, iou

OVERLAP = 0.5
"""Intersection over union from which a default box is to find an object."""
NEGATIVES = 3
"""Default boxes without an object that count, for each with one: those with the largest loss."""
NOTHING = -1


def matched(boxes: Tensor, defaults: Tensor) -> Tensor:
    """Which of the boxes (m, 4) each of the default boxes (n, 4) is to find: int64 (n,), -1 for none of them.

    Each finds the one that it overlaps most, if that is enough; and each box is found by its best default box at least.
    """
    if not len(boxes):
        return torch.full((len(defaults),), NOTHING, device=defaults.device)
    overlaps = iou(boxes, defaults)  # (m, n)
    most, found = overlaps.max(0)
    found[most < OVERLAP] = NOTHING
    found[overlaps.argmax(1)] = torch.arange(len(boxes), device=found.device)
    return found


def multibox_loss(scores: Tensor, offsets: Tensor, defaults: Tensor, objects: Sequence[Boxes]) -> Tensor:
    """The loss for each default box that finds an object: cross entropy, and smooth L1 of its offsets.

    From scores (b, n, num_classes), offsets (b, n, 4) of the default boxes (n, 4), and the objects of the b images in
    the same pixels. Of the boxes without an object those count that are most wrongly taken for one.
    """
    classes = torch.zeros(scores.shape[:2], dtype=torch.int64, device=scores.device)  # the background
    distance = scores.new_zeros(())
    for number, one in enumerate(objects):
        boxes, labels = one.boxes.to(defaults), one.labels.to(scores.device)
        found = matched(boxes, defaults)
        rows = (found >= 0).nonzero()[:, 0]
        classes[number, rows] = labels[found[rows]]
        wanted = encode(boxes[found[rows]], defaults[rows])
        distance = distance + F.smooth_l1_loss(offsets[number, rows], wanted, reduction="sum")
    wrong = F.cross_entropy(scores.flatten(0, 1), classes.flatten(), reduction="none").view(classes.shape)
    positive = classes > 0
    ranks = wrong.detach().masked_fill(positive, -torch.inf).argsort(1, descending=True).argsort(1)
    negative = ranks < NEGATIVES * positive.sum(1, keepdim=True)
    return (distance + wrong[positive | negative].sum()) / positive.sum().clamp(min=1)
