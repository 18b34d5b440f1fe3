"""Weights of the classes in the loss, for data in which some have many more images than others."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMBALANCED = 3
"""`auto` weights the classes where the largest has over this many times the images of the smallest."""


def class_weights(labels: NDArray[np.integer[Any]], num_classes: int) -> Tensor:
    """Balanced weights, float32 (classes,): in inverse proportion to the images of each class in `labels` (n,).

    Their mean over the images is 1, so the loss keeps its scale and its learning rate. All classes with images have the
    same total weight. A class without images has the weight 0; only its own labels would use it.
    """
    counts = torch.from_numpy(np.bincount(labels, minlength=num_classes)).double()
    present = counts > 0
    weights = torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)
    return weights.float()


def loss_weights(choice: Literal["none", "auto"], labels: NDArray[np.integer[Any]], num_classes: int) -> Tensor | None:
    """The weights (classes,) that a recipe's `class_weights` asks for; None where all classes count alike.

    auto: `class_weights` where, of the classes that have images, the largest has over IMBALANCED times as many as the
    smallest.
    """
    counts = np.bincount(labels, minlength=num_classes)
    counts = counts[counts > 0]
    if choice == "none" or not len(counts) or counts.max() <= IMBALANCED * counts.min():
        return None
    return class_weights(labels, num_classes)
