"""DeepLabv3's head for segmentation: atrous spatial pyramid pooling (arXiv 1706.05587)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnas.nn.heads.layers import conv_bn_relu, resized
from mnas.space.operations import DEEPLAB_RATES, DEEPLAB_WIDTH


class ImagePool(nn.Sequential):
    """The mean over the image, through a convolution, at every place."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x
        for module in self:
            mean = module(mean)
        return resized(mean, x)


class ASPP(nn.Module):
    """Convolutions of several dilations and the image's mean, side by side, projected."""

    def __init__(self, in_channels: int, width: int, rates: tuple[int, ...]):
        super().__init__()
        self.convs = nn.ModuleList([
            nn.Sequential(*conv_bn_relu(in_channels, width)),
            *(nn.Sequential(*conv_bn_relu(in_channels, width, 3, rate)) for rate in rates),
            ImagePool(in_channels, width),
        ])  # fmt: skip
        self.project = nn.Sequential(*conv_bn_relu(len(self.convs) * width, width), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.project(torch.cat([conv(x) for conv in self.convs], 1))
        return projected


class DeepLabV3(nn.Sequential):
    """The last feature map (b, c, h, w), at output stride 16 by the usual rates, to scores (b, num_classes, h, w)."""

    def __init__(
        self, in_channels: int, num_classes: int, width: int = DEEPLAB_WIDTH, rates: tuple[int, ...] = DEEPLAB_RATES
    ):
        super().__init__(
            ASPP(in_channels, width, rates), *conv_bn_relu(width, width, 3), nn.Conv2d(width, num_classes, 1)
        )


def rates_at(output_stride: int) -> tuple[int, ...]:
    """The dilations of the pyramid where the last feature map has this stride: as far in pixels of the image."""
    return tuple(rate * 16 // output_stride for rate in DEEPLAB_RATES)


class FCN(nn.Sequential):
    """The auxiliary head on an earlier feature map, for training alone (arXiv 1411.4038)."""

    def __init__(self, in_channels: int, num_classes: int):
        width = in_channels // 4
        super().__init__(*conv_bn_relu(in_channels, width, 3), nn.Dropout(0.1), nn.Conv2d(width, num_classes, 1))
