"""A network as a backbone: its feature maps at several strides, as timm's `features_only` gives them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn.blocks import MBConv
from mnas.space.architecture import Architecture
from mnas.space.taps import OUTPUT_STRIDES, Tap, body_of, usual_taps


class FeatureInfo(list[dict[str, Any]]):
    """A row for each feature map, in timm's convention: `num_chs`, `reduction` (stride), `module` (name)."""

    def channels(self) -> list[int]:
        return [row["num_chs"] for row in self]

    def reduction(self) -> list[int]:
        return [row["reduction"] for row in self]

    def module_name(self) -> list[str]:
        return [row["module"] for row in self]


class Features(nn.Module):
    """The body of a network up to the last of `taps`; its modules have the names that they have in `Network`.

    `output_stride` 16 or 8 keeps feature maps that large: later strides are 1, and the convolutions there are dilated
    (arXiv 1706.05587). Modules are copies of those of `network`, a `Network` of `arch`. Raises BadInput.
    """

    def __init__(self, network: nn.Module, arch: Architecture, taps: Sequence[Tap], output_stride: int = 32):
        super().__init__()
        if output_stride not in OUTPUT_STRIDES:
            raise BadInput(f"output_stride {output_stride}: expected {', '.join(map(str, OUTPUT_STRIDES))}")
        body = body_of(arch)
        names, self.channels = [tap.name for tap in body], arch.channels
        self.taps = {(names.index(tap.name), tap.expanded) for tap in taps}
        self.feature_info = FeatureInfo(
            {"num_chs": tap.channels, "reduction": min(tap.stride, output_stride), "module": tap.module}
            for tap in sorted(taps, key=lambda tap: (names.index(tap.name), not tap.expanded))
        )
        last = max(number for number, _ in self.taps)
        modules = [copy.deepcopy(network.get_submodule(name)) for name in names[: last + 1]]
        for module, tap in zip(modules, body, strict=False):
            if tap.stride > output_stride:
                dilate(module, tap.stride // output_stride)
        self.stem = modules[0]
        self.blocks = nn.Sequential(*modules[1 : 1 + len(arch.blocks)])
        self.conv_head = modules[-1] if len(modules) == len(body) and body[-1].name == "conv_head" else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (b, 3, h, w) to feature maps (b, channels, h / reduction, w / reduction), as `feature_info` lists."""
        x = x[:, : self.channels] if x.shape[1] > self.channels else x
        maps = []
        for number, module in enumerate(self.body()):
            if (number, True) in self.taps:
                wide, x = expanded(module, x)
                maps.append(wide)
            else:
                x = module(x)
            if (number, False) in self.taps:
                maps.append(x)
        return maps

    def body(self) -> list[nn.Module]:
        """Its modules, in order; `taps` has the number of each that gives a map, and whether its expansion does."""
        return [self.stem, *self.blocks, *([self.conv_head] if self.conv_head else [])]


def features_of(network: nn.Module, arch: Architecture, output_stride: int = 32) -> Features:
    """The backbone of a network, with its weights: `usual_taps`."""
    return Features(network, arch, usual_taps(arch), output_stride)


def dilate(module: nn.Module, dilation: int) -> None:
    """Give a block's spatial convolution this dilation in place of its stride."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
            if part.kernel_size[0] > 1:
                part.dilation = (dilation, dilation)
                part.padding = tuple(dilation * (kernel // 2) for kernel in part.kernel_size)
        elif isinstance(part, nn.AvgPool2d):
            part.stride = 1


def expanded(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What an MBConv's expansion gives, and what the block gives."""
    assert isinstance(block, MBConv)
    wide = block.act1(block.bn1(block.conv_pw(x)))
    out = block.se(block.act2(block.bn2(block.conv_dw(wide))))
    out = block.bn3(block.conv_pwl(out))
    return wide, out if block.shortcut is None else out + block.shortcut(x)
