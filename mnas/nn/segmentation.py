"""Networks for semantic segmentation: a backbone at output stride 16 and a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn import blocks
from mnas.nn.features import Features
from mnas.nn.heads.deeplabv3 import FCN, DeepLabV3, rates_at
from mnas.nn.heads.layers import resized
from mnas.nn.heads.lraspp import LRASPP
from mnas.nn.network import Network, build
from mnas.nn.pretrained import check_shapes, load_reference
from mnas.space.architecture import Architecture
from mnas.space.taps import first_at, last_at

SegmentationHead = Literal["lraspp", "deeplabv3"]
OUTPUT_STRIDE, LOW_STRIDE, LAST_STRIDE = 16, 8, 32


class SegmentationNetwork(nn.Module):
    """Scores of each pixel's class. Names of modules in the heads are torchvision's, whose state dicts fit."""

    def __init__(self, backbone: Features, classifier: nn.Module, aux_classifier: nn.Module | None = None):
        super().__init__()
        self.backbone, self.classifier, self.aux_classifier = backbone, classifier, aux_classifier

    def forward(self, x: Tensor) -> Tensor:
        """Images (b, 3, h, w) to scores (b, num_classes, h, w)."""
        return resized(self._scores(self.backbone(x)), x)

    def with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The scores and those of the auxiliary head (b, num_classes, h, w). Raises BadInput without one."""
        if self.aux_classifier is None:
            raise BadInput("this network has no auxiliary head: segmentation_network(..., auxiliary=True)")
        scores, auxiliary = self.for_loss(x)
        return scores, auxiliary

    def for_loss(self, x: Tensor) -> tuple[Tensor, ...]:
        """The scores, and those of the auxiliary head if there is one (b, num_classes, h, w)."""
        return self.of_maps(self.backbone(x), x)

    def of_maps(self, maps: list[Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """`for_loss` of the backbone's feature maps of images."""
        scores = resized(self._scores(maps), x)
        return (scores,) if self.aux_classifier is None else (scores, resized(self.aux_classifier(maps[0]), x))

    def in_order(self) -> list[nn.Module]:
        """The layers from the stem to the heads, which are one."""
        heads = [self.classifier, *([self.aux_classifier] if self.aux_classifier else [])]
        return [*self.backbone.body(), nn.ModuleList(heads)]

    def _scores(self, maps: list[Tensor]) -> Tensor:
        scores: Tensor = self.classifier(maps if isinstance(self.classifier, LRASPP) else maps[-1])
        return scores


def segmentation_network(
    arch: Architecture, head: SegmentationHead, num_classes: int, *, network: Network | None = None,
    auxiliary: bool = False, output_stride: int = OUTPUT_STRIDE,
) -> SegmentationNetwork:  # fmt: skip
    """`arch` as a backbone under a head, with fresh weights or with those of `network` in the backbone.

    `auxiliary` adds DeepLabv3's second head, which helps in training. `output_stride` 8 or 32 makes the last feature
    map larger or smaller than 16, which torchvision's networks have. Raises BadInput for an architecture without
    feature maps at strides 8 and 32, and for an unknown head.
    """
    low, high = first_at(arch, LOW_STRIDE), last_at(arch, LAST_STRIDE)
    both = head == "lraspp" or auxiliary
    backbone = Features(network or build(arch), arch, [low, high] if both else [high], output_stride)
    channels = backbone.feature_info.channels()
    return segmentation_network_of(
        backbone, head, channels, num_classes, output_stride=output_stride, auxiliary=auxiliary
    )


def segmentation_network_of(
    backbone: Features, head: SegmentationHead, channels: Sequence[int], num_classes: int, *, output_stride: int,
    auxiliary: bool,
) -> SegmentationNetwork:  # fmt: skip
    """A head with fresh weights on a backbone whose feature maps have these channels, the last one last."""
    high = channels[-1]
    match head:
        case "lraspp":
            parts: tuple[nn.Module, ...] = (LRASPP(channels[0], high, num_classes),)
        case "deeplabv3":
            parts = (DeepLabV3(high, num_classes, rates=rates_at(output_stride)),)
            if auxiliary:
                parts += (FCN(channels[0], num_classes),)
        case _:
            raise BadInput(f"head {head}: expected lraspp or deeplabv3")
    for part in parts:
        blocks.init_weights(part)
    return SegmentationNetwork(backbone, *parts)


def load_torchvision_segmentation(network: SegmentationNetwork, state_dict: Mapping[str, Any]) -> SegmentationNetwork:
    """Fill a network with the state dict of torchvision's `lraspp_` or `deeplabv3_mobilenet_v3_large`; return it.

    An auxiliary head that `network` lacks is left out. Raises BadInput where something does not fit.
    """
    body = {f"features.{name.removeprefix('backbone.')}": value
            for name, value in state_dict.items() if name.startswith("backbone.")}  # fmt: skip
    heads = {name: value for name, value in state_dict.items() if not name.startswith("backbone.")}
    if network.aux_classifier is None:
        heads = {name: value for name, value in heads.items() if not name.startswith("aux_classifier.")}
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")}
    check_shapes(own, heads)
    load_reference(network.backbone, body)
    network.load_state_dict(heads, strict=False)
    return network
