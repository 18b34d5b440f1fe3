"""Lite R-ASPP, MobileNetV3's head for segmentation (arXiv 1905.02244)."""

from __future__ import annotations

from torch import Tensor, nn

from mnas.nn.heads.layers import conv_bn_relu, resized
from mnas.space.operations import LRASPP_WIDTH


class LRASPP(nn.Module):
    """Scores of classes from two feature maps; attention over the whole image scales the coarse one."""

    def __init__(self, low_channels: int, high_channels: int, num_classes: int, width: int = LRASPP_WIDTH):
        super().__init__()
        self.cbr = nn.Sequential(*conv_bn_relu(high_channels, width))
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high_channels, width, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps at strides 8 and 16 to scores (b, num_classes, h / 8, w / 8)."""
        low, high = maps
        scores: Tensor = self.high_classifier(resized(self.cbr(high) * self.scale(high), low))
        return scores + self.low_classifier(low)
