"""What the supernet of a classification learns: the sandwich rule with in-place distillation (arXiv 1903.05134)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mnas.config import SupernetRecipe
from mnas.data.augment import augment
from mnas.data.loader import batches
from mnas.data.splits import Split
from mnas.io.size import Size
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture

if TYPE_CHECKING:
    from mnas.training.loop import Setting


class ClassSandwich:
    """The `SupernetLessons` of images of one class each; an undecided `recipe.flip` mirrors nothing."""

    def __init__(self, split: Split, recipe: SupernetRecipe, setting: Setting):
        self._split, self._recipe, self._setting = split, recipe, setting
        self.guessing = math.log(max(2, setting.num_classes))

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, order: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, and labels (b,)."""
        setting = self._setting
        yield from batches(
            self._split, order=order, batch_size=batch_size, size=setting.size, device=setting.device
        )

    def augmented(
        self, raw: Tensor, known: Tensor, sizes: Collection[Size], seed: int
    ) -> tuple[dict[Size, Tensor], dict[Size, Tensor]]:
        flip, crop = bool(self._recipe.flip), self._recipe.crop
        images = {
            size: augment(raw, size, generator=torch.Generator().manual_seed(seed), flip=flip, crop=crop)
            for size in sizes
        }
        return images, dict.fromkeys(sizes, known)

    def losses(
        self, supernet: Supernet, images: Mapping[Size, Tensor], targets: Mapping[Size, Tensor],
        subnets: Sequence[tuple[Architecture, Size]],
    ) -> Iterator[Tensor]:  # fmt: skip
        return sandwich(supernet, self._recipe, images, next(iter(targets.values())), subnets)


def sandwich(
    supernet: Supernet, recipe: SupernetRecipe, images: Mapping[Size, Tensor], labels: Tensor,
    subnets: Sequence[tuple[Architecture, Size]],
) -> Iterator[Tensor]:  # fmt: skip
    """The loss of each subnet, the largest first: only it is regularised, and the others learn its outputs.

    `images` maps sizes to batches (b, 3, h, w); `subnets` are architectures with the sizes of their images. Call
    backward on each loss before the next is asked for: then only one subnet's activations are in memory.
    """
    (largest, size), *others = subnets
    logits = supernet(images[size], largest, dropout=recipe.dropout).float()
    targets = logits.detach().softmax(1)
    if recipe.distillation < 1:
        targets = torch.lerp(F.one_hot(labels, targets.shape[1]).float(), targets, recipe.distillation)
    loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    del logits
    yield loss
    for arch, size in others:
        del loss
        loss = F.cross_entropy(supernet(images[size], arch).float(), targets)
        yield loss
