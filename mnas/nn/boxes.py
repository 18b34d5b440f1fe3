"""Boxes of detection: default boxes of SSD, their offsets, overlaps, and non-maximum suppression.

A box is (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

CENTRE_SCALE, SIZE_SCALE = 10.0, 5.0
"""What offsets of centres and logarithms of sizes are multiplied by (arXiv 1512.02325)."""
MAX_LOG_SIZE = math.log(1000 / 16)
"""Largest logarithm of a size: no box gets larger than by this."""


def default_boxes(
    maps: Sequence[tuple[int, int]], size: tuple[int, int], *, smallest: float = 0.2, largest: float = 0.95,
    ratios: Sequence[float] = (2, 3),
) -> Tensor:  # fmt: skip
    """The default boxes (n, 4) of feature maps with these heights and widths, for images of `size` (height, width).

    Their scale grows evenly from the `smallest` part of the image to the `largest`; at each place there are two squares
    and, for each ratio of the sides, a wide and a high one (arXiv 1512.02325, section 2.2). Maps come first, then rows,
    columns, shapes.
    """
    step = (largest - smallest) / max(1, len(maps) - 1)
    scales = [*(smallest + step * number for number in range(len(maps))), 1.0]
    boxes = []
    for (rows, columns), (scale, following) in zip(maps, pairwise(scales), strict=True):
        between = math.sqrt(scale * following)
        shapes = [(scale, scale), (between, between)]
        for ratio in ratios:
            longer, shorter = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            shapes += [(longer, shorter), (shorter, longer)]
        y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
        centres = torch.stack([x, y], -1)[:, :, None]  # (rows, columns, 1, 2)
        halves = torch.tensor(shapes).clamp(max=1) / 2
        boxes.append(torch.cat([centres - halves, centres + halves], -1).flatten(0, 2))
    return torch.cat(boxes) * torch.tensor([size[1], size[0]] * 2)


def decode(offsets: Tensor, defaults: Tensor) -> Tensor:
    """Boxes (..., n, 4) from offsets (..., n, 4) to the default boxes (n, 4)."""
    sizes = defaults[:, 2:] - defaults[:, :2]
    centres = defaults[:, :2] + sizes / 2
    moved = centres + offsets[..., :2] / CENTRE_SCALE * sizes
    halves = sizes * (offsets[..., 2:] / SIZE_SCALE).clamp(max=MAX_LOG_SIZE).exp() / 2
    return torch.cat([moved - halves, moved + halves], -1)


def encode(boxes: Tensor, defaults: Tensor) -> Tensor:
    """Offsets (n, 4) of boxes (n, 4) to the default boxes (n, 4): the inverse of `decode`."""
    sizes, own = defaults[:, 2:] - defaults[:, :2], boxes[:, 2:] - boxes[:, :2]
    centres, wanted = defaults[:, :2] + sizes / 2, boxes[:, :2] + own / 2
    return torch.cat([CENTRE_SCALE * (wanted - centres) / sizes, SIZE_SCALE * (own / sizes).log()], -1)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) inside an image of `size` (height, width)."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([size[1], size[0]] * 2))


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (..., n, m) of boxes (..., n, 4) and (..., m, 4); 0 where both are empty."""
    a, b = first[..., :, None, :], second[..., None, :, :]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    common = sides.prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return torch.nan_to_num(common / (areas - common))


def suppress(boxes: Tensor, threshold: float) -> Tensor:
    """Mask (..., n) of the boxes (..., n, 4), best first, that overlap no better one that is kept by more."""
    count = boxes.shape[-2]
    overlaps = iou(boxes, boxes) > threshold
    kept = torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    for index in range(count - 1):  # greedy by definition; all leading dimensions at once
        worse = overlaps[..., index, index + 1 :] & kept[..., index, None]
        kept[..., index + 1 :] &= ~worse
    return kept
