"""Networks for object detection: a backbone under SSDLite, and what they detect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn.boxes import clipped, decode, default_boxes, suppress
from mnas.nn.features import Features
from mnas.nn.heads.ssdlite import SSDLite
from mnas.nn.network import Network, build
from mnas.nn.pretrained import check_shapes, load_reference
from mnas.space.architecture import Architecture
from mnas.space.taps import Tap, expansion_at, last_at

LAST_STRIDE = 32


class Detections(NamedTuple):
    """What was found in one image, best first."""

    boxes: Tensor
    """(n, 4): x1, y1, x2, y2 in pixels."""
    scores: Tensor
    """(n,): probabilities."""
    labels: Tensor
    """(n,): class numbers from 1; 0 is the background."""


class Threshold(NamedTuple):
    """Which boxes are detections."""

    score: float = 0.001
    """Boxes of a lower probability are left out."""
    overlap: float = 0.55
    """Boxes of a class that overlap a better one by more (intersection over union) are left out."""
    per_class: int = 300
    """Best boxes of each class that are looked at."""
    at_most: int = 300
    """Detections of an image."""


class DetectionNetwork(nn.Module):
    """Scores of classes and offsets for the default boxes of an image."""

    def __init__(self, backbone: Features, head: SSDLite):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (b, 3, h, w) to scores (b, n, num_classes), offsets (b, n, 4), and the default boxes (n, 4)."""
        return self.of_maps(self.backbone(x), x)

    def for_loss(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same."""
        return self.of_maps(self.backbone(x), x)

    def of_maps(self, maps: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` of the backbone's feature maps of images."""
        scores, offsets, shapes = self.head(maps)
        return scores, offsets, default_boxes(shapes, (x.shape[-2], x.shape[-1])).to(x.device)

    def in_order(self) -> list[nn.Module]:
        """The layers from the stem to the head."""
        return [*self.backbone.body(), self.head]

    def detect(self, x: Tensor, threshold: Threshold | None = None) -> list[Detections]:
        """What is in each of the images (b, 3, h, w); call it in eval mode."""
        scores, offsets, defaults = self(x)
        boxes = clipped(decode(offsets, defaults), (x.shape[-2], x.shape[-1]))
        return [detections(*one, threshold or Threshold()) for one in zip(boxes, scores.softmax(-1), strict=True)]


def detections(boxes: Tensor, probabilities: Tensor, threshold: Threshold) -> Detections:
    """Detections from boxes (n, 4) and their classes' probabilities (n, num_classes), the background's first."""
    by_class = probabilities[:, 1:].T  # (classes, n)
    scores, order = by_class.topk(min(threshold.per_class, len(boxes)), 1)
    candidates = boxes[order]  # (classes, per_class, 4)
    # a box below the threshold is behind all above it, so that it suppresses none of them
    kept = suppress(candidates, threshold.overlap) & (scores > threshold.score)
    labels = kept.nonzero()[:, 0] + 1
    found, ranking = scores[kept].sort(descending=True, stable=True)
    best = ranking[: threshold.at_most]
    return Detections(candidates[kept][best], found[: threshold.at_most], labels[best])


def detection_network(arch: Architecture, num_classes: int, *, network: Network | None = None) -> DetectionNetwork:
    """`arch` as a backbone under SSDLite, with fresh weights or with those of `network` in the backbone.

    `num_classes` counts the background. The first feature map is the expansion of the block that leads to stride 32
    (arXiv 1905.02244, section 6.3). Raises BadInput for an architecture without strides 16 and 32.
    """
    taps: list[Tap] = [expansion_at(arch, LAST_STRIDE), last_at(arch, LAST_STRIDE)]
    backbone = Features(network or build(arch), arch, taps)
    return detection_network_of(backbone, [tap.channels for tap in taps], num_classes)


def detection_network_of(backbone: Features, channels: Sequence[int], num_classes: int) -> DetectionNetwork:
    """SSDLite with fresh weights on a backbone whose feature maps have these channels."""
    return DetectionNetwork(backbone, SSDLite(channels, num_classes))


def load_torchvision_detection(network: DetectionNetwork, state_dict: Mapping[str, Any]) -> DetectionNetwork:
    """Fill a network with the state dict of torchvision's `ssdlite320_mobilenet_v3_large`, and return it.

    Its backbone has the reduced tail: `zoo.reduced_tail(zoo.get("mobilenet_v3_large"))`, unless it
    was made from weights of the classification network. Raises BadInput where something does not fit.
    """
    body, head = dict[str, Any](), dict[str, Any]()
    first = [name.split(".")[3] for name in state_dict if name.startswith("backbone.features.0.")]
    if not first:
        raise BadInput("weights: expected those of torchvision's ssdlite320_mobilenet_v3_large")
    split = max(map(int, first))  # the block whose expansion ends the first part
    for name, value in state_dict.items():
        if name.startswith("backbone.features."):
            body[_body_name(name, split)] = value
        else:
            for theirs, ours in _HEAD_NAMES.items():
                name = name.replace(theirs, ours)
            head[name] = value
    check_shapes(network.head.state_dict(), head)
    load_reference(network.backbone, body)
    network.head.load_state_dict(head)
    return network


_HEAD_NAMES = {
    "backbone.extra.": "extra.", "head.classification_head.module_list.": "scores.",
    "head.regression_head.module_list.": "offsets.",
}  # fmt: skip


def _body_name(name: str, split: int) -> str:
    """The classification network's name of a tensor in the two parts of torchvision's backbone."""
    part, index, rest = name.removeprefix("backbone.features.").split(".", 2)
    if part == "0":
        return f"features.{index}.{'block.0.' if int(index) == split else ''}{rest}"
    return f"features.{split}.block.{rest}" if index == "0" else f"features.{split + int(index)}.{rest}"
