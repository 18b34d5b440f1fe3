"""Object detection: images with boxes, SSDLite, SSD's loss, COCO's mean average precision."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnas.config import Recipe
from mnas.data.dense.augment import augment_boxes
from mnas.data.dense.geometry import fitting, inside, inverse, moved
from mnas.data.dense.samples import Boxes
from mnas.io.size import sized
from mnas.metrics.detection import DetectionScores, detection_scores, pycocotools
from mnas.nn.detection import DetectionNetwork, detection_network
from mnas.nn.origin import Origin
from mnas.space.architecture import Architecture
from mnas.tasks.dense import DenseLessons, DenseTask, backbone
from mnas.tasks.multibox import multibox_loss
from mnas.tasks.task import Grade, Part, Place
from mnas.training.loop import Setting
from mnas.training.precision import autocast


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

    def lessons(self, recipe: Recipe, setting: Setting, teacher: nn.Module | None) -> BoxLessons:
        assert teacher is None, "no teacher for detection"
        return BoxLessons(self.data.train, recipe, setting)

    def value(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> float:
        value = self.judge(network, part, place, exact=exact).map
        return 0.0 if math.isnan(value) else value

    def grade(self, network: nn.Module, place: Place) -> Grade:
        return Grade(np.zeros(0, bool), value=self.value(network, "val", place, exact=True))

    @torch.no_grad()  # not inference_mode: a network may be trained on after it was judged
    def judge(self, network: nn.Module, part: Part, place: Place, *, exact: bool) -> DetectionScores:
        """What a network detects in the images of a split; it is then in eval mode."""
        assert isinstance(network, DetectionNetwork)
        network.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval()
        split, found, truths = self.split(part), [], []
        for rows, x in self.seen(part, place):
            with contextlib.nullcontext() if exact else autocast(place.device):
                seen = network.detect(x)
            for row, one in zip(rows, seen, strict=True):
                truth = split.truth(row)
                back = inverse(fitting(truth.width, truth.height, place.size, split.reading))
                boxes = inside(moved(one.boxes.float().cpu(), back), sized(truth.height, truth.width))
                found.append(one._replace(boxes=boxes, scores=one.scores.cpu(), labels=one.labels.cpu()))
                truths.append(truth.target)
        return detection_scores(found, truths, len(self.data.classes))

    def judged(self, network: nn.Module, part: Part, place: Place) -> dict[str, Any]:
        """The scores on a split, exactly, as metrics.json has them; None is what cannot be said."""
        scores = self.judge(network, part, place, exact=True)
        ap = dict(zip(self.data.classes, map(_known, scores.ap), strict=True))
        return {"map": _known(scores.map), "map_50": _known(scores.map_50), "map_75": _known(scores.map_75), "ap": ap}

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
        scores, offsets, defaults = network(x)
        return multibox_loss(scores.float(), offsets.float(), defaults, targets)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
