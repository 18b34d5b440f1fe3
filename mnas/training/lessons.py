"""What a training learns from: images in batches, and the loss on them; those of classification."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.config import Recipe
from mnas.data.augment import augment
from mnas.data.balance import loss_weights
from mnas.data.loader import batches
from mnas.data.mixing import mix
from mnas.data.splits import Split
from mnas.io.size import Size
from mnas.space.architecture import Architecture
from mnas.training.recipe import augments_trivially

if TYPE_CHECKING:
    from mnas.training.loop import Setting


class Lessons(Protocol):
    """The images of one training and its loss; what is known of the images is the task's own."""

    def __len__(self) -> int:
        """The number of images."""

    def batches(self, order: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Any]]:
        """Images uint8 (b, 3, h, w) of these rows on the training's device, and what is known of them.

        Images that cannot be decoded are left out.
        """

    def augmented(self, raw: Tensor, known: Any, generator: torch.Generator) -> tuple[Tensor, Any]:
        """A batch as network input (b, 3, *size), and targets that take slices of it."""

    def loss(self, network: nn.Module, x: Tensor, targets: Any) -> Tensor:
        """The mean loss of images (b, 3, *size)."""


class SupernetLessons(Protocol):
    """What a supernet learns from: images in batches, at the sizes of its subnets, and the loss of each subnet."""

    @property
    def guessing(self) -> float:
        """About the loss of a network that knows nothing."""

    def __len__(self) -> int:
        """The number of images."""

    def batches(self, order: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Any]]:
        """As those of `Lessons`, for the largest size."""

    def augmented(
        self, raw: Tensor, known: Any, sizes: Collection[Size], seed: int
    ) -> tuple[dict[Size, Tensor], dict[Size, Any]]:
        """A batch as network input, and targets that take slices, at each size: the same window of each image."""

    def losses(
        self, supernet: Any, images: Mapping[Size, Tensor], targets: Mapping[Size, Any],
        subnets: Sequence[tuple[Architecture, Size]],
    ) -> Iterator[Tensor]:  # fmt: skip
        """The mean loss of each subnet, the largest first. Call backward on each before the next is asked for."""


class ClassLessons:
    """Images of one class each: soft targets (b, classes) and cross entropy.

    An undecided `recipe.flip` mirrors nothing: see `with_flip`.
    """

    def __init__(self, split: Split, recipe: Recipe, setting: Setting):
        self._split, self._recipe, self._setting = split, recipe, setting
        weights = loss_weights(recipe.class_weights, split.labels, setting.num_classes)
        self._class_weights = None if weights is None else weights.to(setting.device)

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, order: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, and labels (b,)."""
        setting = self._setting
        yield from batches(
            self._split, order=order, batch_size=batch_size, size=setting.size, device=setting.device
        )

    def augmented(self, raw: Tensor, known: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        recipe, setting = self._recipe, self._setting
        x = augment(
            raw, setting.size, generator=generator, flip=bool(recipe.flip), crop=recipe.crop, ratio=recipe.ratio,
            trivial=augments_trivially(recipe),
        )  # fmt: skip
        return mix(
            x, known, setting.num_classes, mixup=recipe.mixup, cutmix=recipe.cutmix,
            label_smoothing=recipe.label_smoothing, generator=generator,
        )  # fmt: skip

    def loss(self, network: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(x).float(), targets, self._class_weights)
