"""Default boxes, offsets, overlaps, suppression."""

from __future__ import annotations

import pytest
import torch
from references import _nms, reference
from torch import Tensor

from mnas.nn.boxes import clipped, decode, default_boxes, encode, iou, suppress


def boxes_of(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 80
    return torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=generator) * 40], 1)


def test_default_boxes_are_torchvisions() -> None:
    detection = reference("torchvision").models.detection
    maps, size = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)], (320, 320)
    make = detection.anchor_utils.DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    images = detection.image_list.ImageList(torch.zeros(1, 3, *size), [size])
    (wanted,) = make(images, [torch.zeros(1, 1, *one) for one in maps])
    torch.testing.assert_close(default_boxes(maps, size), wanted, rtol=1e-5, atol=1e-3)


def test_boxes_of_long_images() -> None:
    boxes = default_boxes([(2, 4), (1, 2)], (100, 200))
    assert len(boxes) == 6 * (8 + 2)
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    torch.testing.assert_close(widths[0] / heights[0], torch.tensor(2.0), msg="a square of the image's own shape")
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    torch.testing.assert_close(centres[:6], torch.full((6, 2), 25.0))


def test_decode_is_the_inverse_of_encode() -> None:
    defaults, boxes = boxes_of(50), boxes_of(50, seed=1)
    torch.testing.assert_close(decode(encode(boxes, defaults), defaults), boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(decode(torch.zeros(50, 4), defaults), defaults)


def test_overlaps() -> None:
    one = torch.tensor([[0.0, 0, 10, 10]])
    others = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]])
    assert iou(one, others).tolist() == [[1.0, pytest.approx(1 / 3), 0.0, 0.0]]
    assert iou(others[3:], others[3:]).item() == 0


def test_clipped() -> None:
    assert clipped(torch.tensor([[-5.0, 3, 50, 90]]), (40, 30)).tolist() == [[0, 3, 30, 40]]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.55])
def test_suppression_is_the_greedy_one(threshold: float) -> None:
    groups = torch.stack([boxes_of(60, seed) for seed in range(3)])
    scores = torch.linspace(1, 0, 60)
    for boxes, kept in zip(groups, suppress(groups, threshold), strict=True):
        assert kept.nonzero()[:, 0].tolist() == _nms(boxes, scores, threshold).tolist()
    assert suppress(torch.zeros(0, 4), 0.5).tolist() == []
