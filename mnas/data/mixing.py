"""Mixup and CutMix: a batch of images blended with itself, and the soft targets that belong to it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def mix(
    x: Tensor, labels: Tensor, num_classes: int, *, mixup: float, cutmix: float, label_smoothing: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Images (b, 3, h, w) mixed with the next of the batch, and soft targets float32 (b, classes).

    mixup (arXiv 1710.09412) blends two images, cutmix (arXiv 1905.04899) pastes a box of one into another. The share is
    drawn once a batch, from Beta(alpha, alpha); where both alphas are above 0, a batch gets one of the two at random.
    With both at 0 the images are returned as they are. Cross entropy with the targets is that of `CrossEntropyLoss(
    label_smoothing=...)`; with weights of the classes, the loss of targets is divided by b, not by the weights' sum.
    `generator` is a CPU generator, so that the mixture is the same on every device. `x` itself is not changed.
    """
    targets = smoothed(labels, num_classes, label_smoothing)
    if not (mixup or cutmix):
        return x, targets
    rng = np.random.default_rng(int(torch.randint(2**63 - 1, (1,), generator=generator)))
    if cutmix and (not mixup or rng.random() < 0.5):
        x, share = _with_box(x, float(rng.beta(cutmix, cutmix)), rng)
    else:
        share = float(rng.beta(mixup, mixup))
        x = torch.lerp(x.roll(1, 0), x, share)
    return x, torch.lerp(targets.roll(1, 0), targets, share)


def smoothed(labels: Tensor, num_classes: int, label_smoothing: float) -> Tensor:
    """Targets float32 (b, classes) of labels (b,): 1 less the smoothing, which is spread over all classes."""
    return F.one_hot(labels, num_classes).float() * (1 - label_smoothing) + label_smoothing / num_classes


def _with_box(x: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """`x` with a box of the next image, and the share of its own pixels, near `share` or, at the border, above it."""
    height, width = x.shape[-2:]
    side = math.sqrt(1 - share)
    top, bottom = _range(height, side, rng)
    left, right = _range(width, side, rng)
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x[..., top:bottom, left:right].roll(1, 0)
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _range(length: int, part: float, rng: np.random.Generator) -> tuple[int, int]:
    """Begin and end of a part of 0..length around a random centre, cut off at the ends."""
    centre, reach = int(rng.integers(length)), round(length * part) // 2
    return max(0, centre - reach), min(length, centre + reach)
