"""Networks for segmentation and detection by their `DenseHead`, and their parts as a latency table times them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnas.io.size import sides
from mnas.nn.detection import DetectionNetwork, detection_network
from mnas.nn.heads.deeplabv3 import DeepLabV3, rates_at
from mnas.nn.heads.lraspp import LRASPP
from mnas.nn.heads.ssdlite import SSDLite
from mnas.nn.network import Network, build, module_of
from mnas.nn.segmentation import SegmentationNetwork, segmentation_network
from mnas.space.architecture import Architecture
from mnas.space.dense import LOW_STRIDES, DenseHead, Outputs, map_size
from mnas.space.layer import Layer

MAPS_FROM = 1
"""Channels of the image from which a frame makes feature maps."""


def dense_network(
    arch: Architecture, head: DenseHead, *, network: Network | None = None, auxiliary: bool = False
) -> SegmentationNetwork | DetectionNetwork:
    """`arch` as a backbone under `head`, with fresh weights or with those of `network` in the backbone.

    `auxiliary` adds DeepLabv3's second head, for training.

    Raises BadInput for an architecture without the feature maps that the head reads.
    """
    if head.name == "ssdlite":
        return detection_network(arch, head.num_classes, network=network)
    return segmentation_network(
        arch, head.name, head.num_classes, network=network, auxiliary=auxiliary, output_stride=head.output_stride
    )


class Dense(nn.Module):
    """Feature maps and a head, to what an exported file gives; without a head the maps' means (b, c, 1, 1).

    Segmentation gives scores (b, num_classes, h, w) at the images' size; detection gives scores (b, n, num_classes) and
    offsets (b, n, 4) of default boxes, which are constants of a file.
    """

    def __init__(self, maps: nn.Module, head: nn.Module | None, size: tuple[int, int]):
        super().__init__()
        self.maps, self.head, self.size = maps, head, size

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Whatever `maps` reads to the outputs at `size`, the height and width of the images."""
        maps = self.maps(x)
        if self.head is None:
            return torch.cat([F.adaptive_avg_pool2d(one, 1) for one in maps], 1)
        if isinstance(self.head, SSDLite):
            scores, offsets, _ = self.head(maps)
            return scores, offsets
        scores = self.head(maps if isinstance(self.head, LRASPP) else maps[-1])
        return F.interpolate(scores, size=self.size, mode="bilinear", align_corners=False)


def network_for(arch: Architecture, outputs: Outputs, network: Network | None = None) -> nn.Module:
    """The whole network in eval mode that latencies are measured of: logits of so many classes, or `Dense`."""
    if isinstance(outputs, int):
        return (network or build(arch, outputs)).eval()
    return measured_whole(dense_network(arch, outputs, network=network), arch)


def measured_whole(network: nn.Module, arch: Architecture) -> nn.Module:
    """What latencies are measured of, in eval mode: a classifier itself, or a network under a head as `Dense`."""
    if not isinstance(network, DetectionNetwork | SegmentationNetwork):
        return network.eval()
    head = network.head if isinstance(network, DetectionNetwork) else network.classifier
    return Dense(network.backbone, head, sides(arch.resolution)).eval()


# --- a head alone


class FlatMaps(nn.Module):
    """Feature maps (b, c, h, w), in channels_last, that lie one after the other in memory (n,)."""

    def __init__(self, shapes: Sequence[tuple[int, int, int, int]]):
        super().__init__()
        self.shapes = tuple(shapes)

    def forward(self, x: Tensor) -> list[Tensor]:
        parts = torch.split(x, [prod(shape) for shape in self.shapes])
        pairs = zip(parts, self.shapes, strict=True)
        return [part.view(b, h, w, c).permute(0, 3, 1, 2) for part, (b, c, h, w) in pairs]


class MadeMaps(nn.Module):
    """Feature maps made by a convolution each of an image (b, 1, h, w), as large as the largest of them."""

    def __init__(self, convs: Sequence[nn.Module], sizes: Sequence[tuple[int, int]]):
        super().__init__()
        self.convs, self.sizes = nn.ModuleList(convs), tuple(sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [conv(x) for conv in self.convs]


def head_alone(layer: Layer, batch: int, *, in_frame: bool) -> Dense:
    """A head's layer as a table times it, on maps from memory or in a frame; of no classes, the frame alone."""
    maps = _made_maps(layer) if in_frame else FlatMaps(map_shapes(layer, batch))
    return Dense(maps, _head_module(layer) if layer.out_channels else None, sides(layer.size)).eval()


def head_input(layer: Layer, batch: int, *, in_frame: bool) -> tuple[int, ...]:
    """The input shape of `head_alone`: (n,), or (b, 1, h, w) in a frame."""
    shapes = map_shapes(layer, batch)
    return (batch, MAPS_FROM, *shapes[0][2:]) if in_frame else (sum(map(prod, shapes)),)


def map_shapes(layer: Layer, batch: int) -> list[tuple[int, int, int, int]]:
    """(b, c, h, w) of the feature maps that a head's layer reads, the last one last."""
    low = [(batch, layer.low_channels, *sides(map_size(layer, low=True)))] if layer.low_channels else []
    return [*low, (batch, layer.in_channels, *sides(map_size(layer)))]


def _made_maps(layer: Layer) -> MadeMaps:
    shapes = map_shapes(layer, 1)
    steps = [1]
    if layer.low_channels:
        steps.append(layer.stride // min(LOW_STRIDES[layer.operator], layer.stride))
    largest = map_size(layer, low=bool(layer.low_channels))
    convs = [
        module_of(Layer("conv", largest, MAPS_FROM, channels, stride=step))
        for (_, channels, _, _), step in zip(shapes, steps, strict=True)
    ]
    return MadeMaps(convs, [shape[2:] for shape in shapes])


def _head_module(layer: Layer) -> nn.Module:
    match layer.operator:
        case "lraspp":
            return LRASPP(layer.low_channels, layer.in_channels, layer.out_channels)
        case "deeplabv3":
            return DeepLabV3(layer.in_channels, layer.out_channels, rates=rates_at(layer.stride))
        case _:
            return SSDLite([layer.low_channels, layer.in_channels], layer.out_channels)
