"""Object detection: images with boxes, SSDLite, SSD's loss, COCO's mean average precision."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnas.config import Recipe, SupernetRecipe
from mnas.data.dense.augment import augment_boxes
from mnas.data.dense.geometry import fitting, inside, inverse, moved
from mnas.data.dense.samples import Boxes
from mnas.io.size import sized
from mnas.metrics.detection import DetectionScores, detection_scores, pycocotools, scores_with_parts
from mnas.nn.detection import DetectionNetwork, Detections, detection_network
from mnas.nn.origin import Origin
from mnas.space.architecture import Architecture
from mnas.tasks.dense import DenseLessons, DenseSandwich, DenseTask, Examined, backbone
from mnas.tasks.multibox import NEGATIVES, multibox_loss
from mnas.tasks.task import Part, Place
from mnas.training.loop import Setting
from mnas.training.precision import autocast

GUESSED_OFFSETS = 2.0
"""About the smooth L1 loss of offsets that are all zero."""


@dataclass(frozen=True)
class Detection(DenseTask[Boxes]):
    """The task of `mnas.tasks.task.Task` for images with boxes; detections are judged in the images' own pixels.

    Raises MissingDependency without pycocotools, which judges them.
    """

    name = "detection"
    figure = "map"
    judged_at = "the images' own pixels"

    def __post_init__(self) -> None:
        pycocotools("coco")

    def build(self, arch: Architecture, dropout: float, origin: Origin | None) -> DetectionNetwork:
        return detection_network(arch, self.head.num_classes, network=backbone(arch, origin))

    def lessons(self, recipe: Recipe, setting: Setting) -> BoxLessons:
        return BoxLessons(self.data.train, recipe, setting)

    def supernet_lessons(self, recipe: SupernetRecipe, setting: Setting) -> DenseSandwich[Boxes]:
        guessing = (1 + NEGATIVES) * math.log(self.head.num_classes) + GUESSED_OFFSETS
        return DenseSandwich(self.lessons(recipe, setting), guessing)

    def value(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> float:
        return _number(self.judge(network, part, place, exact=exact).map)

    def judge(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> DetectionScores:
        """The scores of what a network detects in the images of a split; it is then in eval mode."""
        return detection_scores(*self.detections(network, part, place, exact=exact), len(self.data.classes))

    @torch.no_grad()  # not inference_mode: a network may be trained on after it was judged
    def detections(
        self, network: nn.Module, part: Part, place: Place, *, exact: bool
    ) -> tuple[list[Detections], list[Boxes]]:  # fmt: skip
        """What a network detects in each image of a split, and the objects in it, in the image's own pixels."""
        assert isinstance(network, DetectionNetwork)
        network.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval()
        split, found, truths = self.split(part), list[Detections](), list[Boxes]()
        for rows, x in self.seen(part, place):
            with contextlib.nullcontext() if exact else autocast(place.device):
                seen = network.detect(x)
            for row, one in zip(rows, seen, strict=True):
                truth = split.truth(row)
                back = inverse(fitting(truth.width, truth.height, place.size, split.reading))
                boxes = inside(moved(one.boxes.float().cpu(), back), sized(truth.height, truth.width))
                found.append(one._replace(boxes=boxes, scores=one.scores.cpu(), labels=one.labels.cpu()))
                truths.append(truth.target)
        return found, truths

    def examine(self, network: nn.Module, part: Part, place: Place) -> Examined:
        scores, parts = scores_with_parts(
            *self.detections(network, part, place, exact=True), len(self.data.classes)
        )
        ap = dict(zip(self.data.classes, map(_known, scores.ap), strict=True))
        figures = {
            "map": _known(scores.map), "map_50": _known(scores.map_50), "map_75": _known(scores.map_75), "ap": ap,
        }  # fmt: skip
        return Examined(_number(scores.map), parts, figures)

    def handed_over(self, network: nn.Module) -> None:
        """Take off a trained network what is for training alone: nothing."""


@dataclass(frozen=True)
class BoxLessons(DenseLessons[Boxes]):
    """Images with boxes; those of crowds are not learnt."""

    def augmented(self, raw: Tensor, known: list[Boxes], generator: torch.Generator) -> tuple[Tensor, list[Boxes]]:
        """Input and boxes in its pixels."""
        alone = [one.only(~one.crowd) for one in known]
        return augment_boxes(raw, alone, self.setting.size, generator=generator, augmentation=self.augmentation)

    def loss(self, network: nn.Module, x: Tensor, targets: list[Boxes]) -> Tensor:
        assert isinstance(network, DetectionNetwork)
        return self.loss_of(network.for_loss(x), targets)

    def loss_of(self, outputs: tuple[Tensor, ...], targets: list[Boxes]) -> Tensor:
        scores, offsets, defaults = outputs
        return multibox_loss(scores.float(), offsets.float(), defaults, targets)


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
