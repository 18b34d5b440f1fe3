"""A network judged image by image, so that networks can be compared on the same images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.splits import Split
from mnas.io.size import Size
from mnas.training.memory import judged_at_once
from mnas.training.precision import autocast

TOP = 5
TOP_ABOVE = 10
"""Where there are no more classes, the top-5 accuracy says little."""


@dataclass(frozen=True)
class Judgement:
    """What a network says about each of n images, in the order of their split; broken images are left out."""

    labels: NDArray[np.int64]
    """The right class of each image, (n,)."""
    predicted: NDArray[np.int64]
    """The class with the largest logit, (n,)."""
    num_classes: int
    in_top5: NDArray[np.bool_] | None = None
    """Whether the right class is among the five largest logits, (n,); None where there are at most ten classes."""
    confidence: NDArray[np.float32] | None = None
    """The probability (0..1) that the network gives its prediction, (n,); None where it was not kept."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, (n,)."""
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        """The share (0..1) of images that are classified correctly; 0 without images."""
        return float(self.correct.mean()) if len(self) else 0.0

    @property
    def top5(self) -> float | None:
        """The share (0..1) of images whose class is among the five largest logits; None for at most ten classes."""
        if self.in_top5 is None:
            return None
        return float(self.in_top5.mean()) if len(self) else 0.0

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The number of images of each class (row) that get each prediction (column), (classes, classes)."""
        cells = np.bincount(self.labels * self.num_classes + self.predicted, minlength=self.num_classes**2)
        return cells.reshape(self.num_classes, self.num_classes).astype(np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of images of each class, (classes,)."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share (0..1) of each class's images that are classified correctly, (classes,); NaN without images."""
        found = np.bincount(self.labels[self.correct], minlength=self.num_classes)
        return np.divide(found, self.counts, out=np.full(self.num_classes, np.nan), where=self.counts > 0)

    @property
    def balanced_accuracy(self) -> float:
        """The mean (0..1) of the classes' recalls, of those that have images; 0 without images."""
        return float(np.nanmean(self.recall)) if len(self) else 0.0

    @property
    def class_weights(self) -> NDArray[np.float64]:
        """A weight of each image, (n,), with which the mean of `correct` is the balanced accuracy; their mean is 1."""
        present = np.count_nonzero(self.counts)
        return len(self) / (present * self.counts[self.labels]) if len(self) else np.ones(0)

    @property
    def majority_share(self) -> float:
        """The share (0..1) of images of the most frequent class: what always answering it would get right."""
        return float(self.counts.max() / len(self)) if len(self) else 0.0

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Small arrays for numpy.savez; `from_arrays` is the inverse."""
        small = np.int16 if self.num_classes <= np.iinfo(np.int16).max else np.int32
        arrays: dict[str, NDArray[Any]] = {
            "labels": self.labels.astype(small), "predicted": self.predicted.astype(small),
            "num_classes": np.asarray(self.num_classes),
        }  # fmt: skip
        return arrays if self.in_top5 is None else arrays | {"in_top5": self.in_top5}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Judgement:
        """The judgement that `to_arrays` gave."""
        labels, predicted = (np.asarray(arrays[name]).astype(np.int64) for name in ("labels", "predicted"))
        in_top5 = np.asarray(arrays["in_top5"]).astype(bool) if "in_top5" in arrays else None
        return cls(labels, predicted, int(arrays["num_classes"]), in_top5)


@torch.inference_mode()
def judge(
    network: nn.Module, split: Split, *, size: Size, device: torch.device, num_classes: int, exact: bool = False
) -> Judgement:
    """Classify the images of `split` at `size`, batch by batch; the network is then in eval mode.

    `exact`: in float32 even where training uses bfloat16, as the exported network computes.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    empty = torch.zeros(0, dtype=torch.int64, device=device)
    seen, said, sure, top = [empty], [empty], [empty.float()], [empty.bool()]
    for raw, labels in batches(split, batch_size=judged_at_once(size), size=size, device=device):
        with contextlib.nullcontext() if exact else autocast(device):
            logits = network(normalise(raw, size))
        seen.append(labels)
        said.append(logits.argmax(1))
        sure.append(logits.float().softmax(1).amax(1))
        if num_classes > TOP_ABOVE:
            top.append((logits.topk(TOP, 1).indices == labels[:, None]).any(1))
    all_labels, predicted, confidence, in_top5 = (torch.cat(parts).cpu().numpy() for parts in (seen, said, sure, top))
    return Judgement(all_labels, predicted, num_classes, in_top5 if num_classes > TOP_ABOVE else None, confidence)
