"""Semantic segmentation: images with masks, LR-ASPP or DeepLabv3, cross entropy of pixels, mIoU."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnas.config import Recipe, SupernetRecipe
from mnas.data.dense.augment import augment_masks
from mnas.metrics.jackknife import groups_of
from mnas.metrics.segmentation import SegmentationScores, confusion, parts_of_miou, segmentation_scores
from mnas.nn.dense_supernet import DenseSupernet
from mnas.nn.origin import Origin
from mnas.nn.segmentation import SegmentationNetwork, segmentation_network
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.tasks.dense import DenseLessons, DenseSandwich, DenseTask, Examined, backbone
from mnas.tasks.task import Part, Place
from mnas.training.loop import Setting
from mnas.training.precision import autocast

WITH_AUXILIARY = ("deeplabv3",)
"""Heads that are trained beside a second one."""
AUXILIARY = 0.5
"""The weight of its loss, as in torchvision."""


@dataclass(frozen=True)
class Segmentation(DenseTask[Tensor]):
    """The task of `mnas.tasks.task.Task` for images with masks.

    Networks are judged in the masks' own pixels: scores are resized to the mask, never the mask to the scores. So the
    benchmarks of the field do (Pascal VOC, Cityscapes, ADE20K), and networks of unequal input sizes compare.
    """

    name = "segmentation"
    figure = "miou"
    judged_at = "the masks' own pixels"

    def build(self, arch: Architecture, dropout: float, origin: Origin | None) -> SegmentationNetwork:
        """A network, with an auxiliary head where the head has one; heads have a dropout of their own."""
        name = cast(Literal["lraspp", "deeplabv3"], self.head.name)
        return segmentation_network(
            arch, name, self.head.num_classes, network=backbone(arch, origin), auxiliary=name in WITH_AUXILIARY,
            output_stride=self.head.output_stride,
        )  # fmt: skip

    def lessons(self, recipe: Recipe, setting: Setting) -> MaskLessons:
        return MaskLessons(self.data.train, recipe, setting, self.data.ignore_index)

    def supernet(self, space: SearchSpace, kernel_transforms: bool) -> DenseSupernet:
        return DenseSupernet(space, self.head, kernel_transforms, self.head.name in WITH_AUXILIARY)

    def supernet_lessons(self, recipe: SupernetRecipe, setting: Setting) -> DenseSandwich[Tensor]:
        guessing = math.log(max(2, self.head.num_classes)) * (1 + AUXILIARY * (self.head.name in WITH_AUXILIARY))
        return DenseSandwich(self.lessons(recipe, setting), guessing)

    def value(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> float:
        return _number(self.judge(network, part, place, exact=exact).miou)

    def judge(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> SegmentationScores:
        """What a network says about the pixels of a split; it is then in eval mode."""
        return segmentation_scores(self.confusions(network, part, place, exact=exact).sum(0))

    @torch.no_grad()  # not inference_mode: a network may be trained on after it was judged
    def confusions(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> Tensor:
        """The confusion matrix of each group of images, int64 (groups, classes, classes)."""
        network.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval()
        classes, ignored = self.head.num_classes, self.data.ignore_index
        split = self.split(part)
        groups = groups_of(len(split))
        matrices = torch.zeros(groups, classes, classes, dtype=torch.int64)
        for rows, x in self.seen(part, place):
            with contextlib.nullcontext() if exact else autocast(place.device):
                scores = network(x).float()
            for row, one in zip(rows, scores, strict=True):
                truth = split.truth(row)
                said = likeliest(one, truth.height, truth.width).cpu()
                matrices[row % groups] += confusion(said, truth.target, classes, ignored)
        return matrices

    def examine(self, network: nn.Module, part: Part, place: Place) -> Examined:
        matrices = self.confusions(network, part, place, exact=True)
        scores = segmentation_scores(matrices.sum(0))
        iou = dict(zip(self.data.classes, map(_known, scores.iou), strict=True))
        figures = {"miou": _known(scores.miou), "pixel_accuracy": _known(scores.pixel_accuracy), "iou": iou}
        return Examined(_number(scores.miou), parts_of_miou(matrices), figures)

    def handed_over(self, network: nn.Module) -> None:
        """Take off a trained network what is for training alone: the auxiliary head."""
        assert isinstance(network, SegmentationNetwork)
        network.aux_classifier = None


@dataclass(frozen=True)
class MaskLessons(DenseLessons[Tensor]):
    """Images with masks; pixels of the ignore index are left out of the loss."""

    ignore_index: int

    def augmented(self, raw: Tensor, known: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Input and masks (b, *size)."""
        x, masks = augment_masks(
            raw, known, self.setting.size, generator=generator, augmentation=self.augmentation
        )
        return x, masks.to(x.device)

    def loss(self, network: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy, of the auxiliary head too."""
        assert isinstance(network, SegmentationNetwork)
        return self.loss_of(network.for_loss(x), targets)

    def loss_of(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        scores, *auxiliary = outputs
        loss = self._cross_entropy(scores, targets)
        return loss + AUXILIARY * self._cross_entropy(auxiliary[0], targets) if auxiliary else loss

    def _cross_entropy(self, scores: Tensor, masks: Tensor) -> Tensor:
        """The mean over the pixels of a class; 0 where there are none."""
        total = F.cross_entropy(
            scores.float(), masks, ignore_index=self.ignore_index, reduction="sum",
            label_smoothing=self.recipe.label_smoothing,
        )  # fmt: skip
        return total / (masks != self.ignore_index).sum().clamp(min=1)


def likeliest(scores: Tensor, height: int, width: int) -> Tensor:
    """The class of each pixel, int64 (height, width), by scores (classes, h, w) that are resized to that size.

    Class by class, since all of a photograph's at once may take gigabytes.
    """
    best = scores.new_full((height, width), -torch.inf)
    said = torch.zeros(height, width, dtype=torch.int64, device=scores.device)
    for number, one in enumerate(scores):
        resized = F.interpolate(one[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        said[resized > best] = number
        best = torch.maximum(best, resized)
    return said


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
