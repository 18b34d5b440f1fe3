"""What segmentation and detection have in common: a backbone under a head, and images that are read whole."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.config import Recipe
from mnas.data.augment import normalise
from mnas.data.dense.augment import Augmentation
from mnas.data.dense.loader import batches, in_memory
from mnas.data.dense.samples import DenseData, DenseSplit, T
from mnas.errors import BadInput
from mnas.io.size import Size, sides, sized
from mnas.nn.dense_supernet import DenseSupernet
from mnas.nn.network import Network, build
from mnas.nn.origin import Origin
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead
from mnas.space.space import SearchSpace
from mnas.tasks.task import Grade, Part, Place
from mnas.training.loop import Setting, recalibrate_on
from mnas.training.memory import judged_at_once
from mnas.training.sizes import native_size

ENLARGED = 1.5
"""Training images are decoded at this many times the network's input: random windows enlarge parts of them."""
LARGEST = 320
"""The input size, unless one is stated, of larger images."""
LEAST_IMAGES = 2
"""Batch normalisation of maps of one pixel needs so many in a batch."""
RECIPE: Mapping[str, Any] = {
    "batch_size": 16, "lr": 0.8, "label_smoothing": 0.0, "dropout": 0.0, "crop": 0.5, "ratio": 4 / 3,
    "trivial_augment": False,
}  # fmt: skip
"""What differs from the recipe of classification. The peak learning rate is 0.1 at this batch size: with a quarter of
it, MobileNetV3-Small under LR-ASPP reached an mIoU of 27.0% on the built-in shapes in 40 epochs, with 0.6 of it 29.5%,
with 1.25 times 32.5%. SSDLite learnt nothing in a few hundred steps with a quarter, with half as much as with it."""
UNUSED = ("dropout", "trivial_augment", "mixup", "cutmix", "class_weights")
"""Keys of a recipe that classification alone has a use for."""

Self = TypeVar("Self", bound="DenseTask[Any]")


class Examined(NamedTuple):
    """What a network does on a split, by the task's figure and all others."""

    value: float
    """The figure (0..1)."""
    parts: NDArray[np.float64]
    """Its pseudo-values by groups of images, (groups,): see `mnas.metrics.jackknife`."""
    figures: dict[str, Any]
    """As metrics.json has them; None is what cannot be said."""


@dataclass(frozen=True)
class DenseTask(Generic[T]):
    """The part of a `mnas.tasks.task.Task` that is the same for masks and boxes."""

    data: DenseData[T]
    head: DenseHead
    usual = RECIPE
    probed = False
    counted = None

    def examine(self, network: nn.Module, part: Part, place: Place) -> Examined:
        """What a network does on a split, exactly."""
        raise NotImplementedError

    @property
    def outputs(self) -> DenseHead:
        return self.head

    @property
    def images(self) -> int:
        return len(self.data.train)

    def limited(self: Self, *, train: int | None = None, val: int | None = None, seed: int) -> Self:
        """The same task on at most these numbers of images, drawn at random."""
        data = self.data
        return replace(self, data=replace(
            data, train=drawn(data.train, train, seed), val=drawn(data.val, val, seed)
        ))  # fmt: skip

    def pixels(self, images: int, place: Place, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        drawn = batches(self.data.train, batch_size=images, size=place.size, generator=generator, workers=0)
        return next((batch.images.to(place.device) for batch in drawn), torch.empty(0))

    def grade(self, network: nn.Module, place: Place) -> Grade:
        seen = self.examine(network, "val", place)
        return Grade(np.zeros(0, bool), value=seen.value, parts=seen.parts)

    def judged(self, network: nn.Module, part: Part, place: Place) -> dict[str, Any]:
        """The scores on a split, exactly, as metrics.json has them; None is what cannot be said."""
        return self.examine(network, part, place).figures

    def supernet(self, space: SearchSpace, kernel_transforms: bool) -> DenseSupernet:
        return DenseSupernet(space, self.head, kernel_transforms)

    def recalibrate(self, network: nn.Module, images: int, place: Place) -> None:
        sample, generator = drawn(self.data.train, images, 0), torch.Generator().manual_seed(0)
        at_once = judged_at_once(place.size)
        seen = batches(sample, batch_size=at_once, size=enlarged(place.size), generator=generator)
        inputs = (normalise(batch.images.to(place.device), place.size) for batch in seen if len(batch.rows) > 1)
        recalibrate_on(network, inputs, place.device)

    def split(self, part: Part) -> DenseSplit[T]:
        """The images of a split."""
        return {"train": self.data.train, "val": self.data.val, "test": self.data.test}[part]

    def seen(self, part: Part, place: Place) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of a split: the rows of the images, and the network's input (b, 3, *size)."""
        for batch in batches(self.split(part), batch_size=judged_at_once(place.size), size=place.size):
            yield batch.rows, normalise(batch.images.to(place.device), place.size)


@dataclass(frozen=True)
class DenseSandwich(Generic[T]):
    """The `mnas.training.lessons.SupernetLessons` of masks and boxes.

    Every subnet learns the truth, by the task's loss; none the largest one's outputs, as those of a classification do.
    """

    at_largest: Any
    """The lessons of a network at the largest size."""
    guessing: float

    def __len__(self) -> int:
        return len(self.at_largest)

    def batches(self, order: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, list[T]]]:
        yield from self.at_largest.batches(order, batch_size)

    def augmented(
        self, raw: Tensor, known: list[T], sizes: Collection[Size], seed: int
    ) -> tuple[dict[Size, Tensor], dict[Size, Any]]:
        images, targets = dict[Size, Tensor](), dict[Size, Any]()
        for size in sizes:
            lessons = replace(self.at_largest, setting=replace(self.at_largest.setting, size=size))
            images[size], targets[size] = lessons.augmented(raw, known, torch.Generator().manual_seed(seed))
        return images, targets

    def losses(
        self, supernet: Supernet, images: Mapping[Size, Tensor], targets: Mapping[Size, Any],
        subnets: Sequence[tuple[Architecture, Size]],
    ) -> Iterator[Tensor]:  # fmt: skip
        for arch, size in subnets:
            yield self.at_largest.loss_of(supernet(images[size], arch), targets[size])


@dataclass(frozen=True)
class DenseLessons(Generic[T]):
    """The part of `mnas.training.lessons.Lessons` that is the same for masks and boxes."""

    train: DenseSplit[T]
    recipe: Recipe
    setting: Setting

    def __len__(self) -> int:
        return len(self.train)

    def batches(self, order: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, list[T]]]:
        """Images, larger than the network's input, and what is known of each in their pixels."""
        size = enlarged(self.setting.size)
        for batch in batches(self.train, batch_size=batch_size, size=size, order=order):
            if len(batch.rows) > 1:
                yield batch.images.to(self.setting.device), batch.targets

    @property
    def augmentation(self) -> Augmentation:
        """As the recipe has it; images are mirrored unless it states otherwise."""
        recipe = self.recipe
        return Augmentation(crop=recipe.crop, ratio=recipe.ratio, flip=recipe.flip is not False)


def backbone(arch: Architecture, origin: Origin | None) -> Network:
    """The network whose body stands under a head, with an origin's weights or fresh ones."""
    network = build(arch, 1)
    if origin is not None:
        origin.fill(network, arch)
    return network


def prepared(data: DenseData[T], size: Size) -> DenseData[T]:
    """`data` with its training images decoded once for networks of this input size. Raises BadInput for too few."""
    train = in_memory(data.train, enlarged(size))
    if len(train) < LEAST_IMAGES:
        raise BadInput(f"{data.name}: {len(train)} training image; expected at least {LEAST_IMAGES}")
    return replace(data, train=train)


def usual_size(data: DenseData[T]) -> int:
    """The input size for the images of the data: that of their shorter sides, at most LARGEST."""
    return native_size(data.image_size, LARGEST)


def enlarged(size: Size) -> Size:
    """The size at which training images are decoded for networks of an input size."""
    return sized(*(math.ceil(ENLARGED * side) for side in sides(size)))


def drawn(split: DenseSplit[T], images: int | None, seed: int) -> DenseSplit[T]:
    """At most this number of images of a split, in their order."""
    if images is None or images >= len(split):
        return split
    return split.subset(sorted(np.random.default_rng(seed).permutation(len(split))[:images].tolist()))


def check_recipe(recipe: Recipe, task: str, part: str = "") -> None:
    """Raise BadInput for what is stated, in a `part` of a configuration, but has no use in a task with a head."""
    usual = Recipe(**RECIPE)
    for key in UNUSED:
        if getattr(recipe, key) != getattr(usual, key):
            raise BadInput(f"--set {part}{key}: of no use for {task}; it is for classification alone")
