"""SSDLite: SSD's predictors with depthwise convolutions (arXiv 1801.04381, section 6.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnas.space.operations import SSD_ANCHORS, SSD_EXTRA

BN_EPS, BN_MOMENTUM = 0.001, 0.03


def _conv(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels, BN_EPS, BN_MOMENTUM), nn.ReLU6())


def extra_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    """One further feature map, of half the size."""
    width = out_channels // 2
    return nn.Sequential(
        _conv(in_channels, width), _conv(width, width, 3, stride=2, groups=width), _conv(width, out_channels)
    )


def _predictor(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, channels, 3, groups=channels), nn.Conv2d(channels, outputs, 1))


class SSDLite(nn.Module):
    """Extra feature maps, and predictors on all maps: for each default box scores of classes and four offsets."""

    def __init__(self, channels: Sequence[int], num_classes: int, extra: Sequence[int] = SSD_EXTRA):
        super().__init__()
        before = [channels[-1], *extra[:-1]]
        self.extra = nn.ModuleList(map(extra_layer, before, extra))
        every = [*channels, *extra]
        self.scores = nn.ModuleList(_predictor(one, SSD_ANCHORS * num_classes) for one in every)
        self.offsets = nn.ModuleList(_predictor(one, SSD_ANCHORS * 4) for one in every)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.03)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """Feature maps to scores (b, n, num_classes), offsets (b, n, 4), and the (height, width) of every map."""
        maps = list(maps)
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        scores = _by_box([predict(x) for predict, x in zip(self.scores, maps, strict=True)])
        offsets = _by_box([predict(x) for predict, x in zip(self.offsets, maps, strict=True)])
        return scores, offsets, [(x.shape[-2], x.shape[-1]) for x in maps]


def _by_box(outputs: list[Tensor]) -> Tensor:
    """(b, boxes * values, h, w) of each map to (b, all boxes, values): rows first, then columns, then boxes there."""
    apart = [one.view(len(one), SSD_ANCHORS, -1, *one.shape[-2:]) for one in outputs]
    rows = [one.permute(0, 3, 4, 1, 2).flatten(1, 3) for one in apart]
    return torch.cat(rows, 1)
