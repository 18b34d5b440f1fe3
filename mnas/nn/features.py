"""A network as a backbone: its feature maps at several strides, as timm's `features_only` gives them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn.blocks import MBConv
from mnas.space.architecture import Architecture

STRIDES = (4, 8, 16, 32)
"""Of the feature maps that a backbone gives unless others are asked for."""
OUTPUT_STRIDES = (8, 16, 32)


class Tap(NamedTuple):
    """A module of the body whose output is a feature map."""

    name: str
    channels: int
    stride: int
    """Pixels of the image for one of the feature map, before dilation."""
    expanded: bool = False
    """Whether it is the expansion inside the block, before its stride."""

    @property
    def module(self) -> str:
        """The name of the module that computes it."""
        return f"{self.name}.act1" if self.expanded else self.name


class FeatureInfo(list[dict[str, Any]]):
    """A row for each feature map, in timm's convention: `num_chs`, `reduction` (stride), `module` (name)."""

    def channels(self) -> list[int]:
        return [row["num_chs"] for row in self]

    def reduction(self) -> list[int]:
        return [row["reduction"] for row in self]

    def module_name(self) -> list[str]:
        return [row["module"] for row in self]


def body_of(arch: Architecture) -> list[Tap]:
    """Stem, blocks and, in designs whose hidden layer follows the pooling (MobileNetV3), the last convolution."""
    layers = arch.layers()
    blocks = layers[1 : 1 + len(arch.blocks)]
    named = [("stem", layers[0]), *((f"blocks.{number}", layer) for number, layer in enumerate(blocks))]
    if arch.head.channels and arch.head.hidden:
        named.append(("conv_head", layers[1 + len(blocks)]))
    taps, stride = list[Tap](), 1
    for name, layer in named:
        stride *= layer.stride
        taps.append(Tap(name, layer.out_channels, stride))
    return taps


def last_at(arch: Architecture, stride: int) -> Tap:
    """The last module at a stride. Raises BadInput where the network has none."""
    return _at(arch, stride)[-1]


def first_at(arch: Architecture, stride: int) -> Tap:
    """The first module at a stride. Raises BadInput where the network has none."""
    return _at(arch, stride)[0]


def expansion_at(arch: Architecture, stride: int) -> Tap:
    """The expansion inside the first block at a stride, itself at half of it.

    Where that block does not expand, the module before it. Raises BadInput where the network has no such stride.
    """
    first = first_at(arch, stride)
    layer = arch.layers()[[tap.name for tap in body_of(arch)].index(first.name)]
    if layer.operator != "mbconv":
        return last_at(arch, stride // 2)
    return Tap(first.name, layer.hidden, stride // 2, expanded=True)


def _at(arch: Architecture, stride: int) -> list[Tap]:
    body = body_of(arch)
    if found := [tap for tap in body if tap.stride == stride]:
        return found
    there = ", ".join(str(one) for one in sorted({tap.stride for tap in body}))
    raise BadInput(f"feature maps at stride {stride}: this network has {there}")


class Features(nn.Module):
    """The body of a network up to the last of `taps`; its modules have the names that they have in `Network`.

    `output_stride` 16 or 8 keeps feature maps that large: later strides are 1, and the convolutions there are dilated
    (arXiv 1706.05587). Modules are copies of those of `network`, a `Network` of `arch`. Raises
    BadInput.
    """

    def __init__(self, network: nn.Module, arch: Architecture, taps: Sequence[Tap], output_stride: int = 32):
        super().__init__()
        if output_stride not in OUTPUT_STRIDES:
            raise BadInput(f"output_stride {output_stride}: expected {', '.join(map(str, OUTPUT_STRIDES))}")
        body = body_of(arch)
        names, self.channels = [tap.name for tap in body], arch.channels
        self._taps = {(names.index(tap.name), tap.expanded) for tap in taps}
        self.feature_info = FeatureInfo(
            {"num_chs": tap.channels, "reduction": min(tap.stride, output_stride), "module": tap.module}
            for tap in sorted(taps, key=lambda tap: (names.index(tap.name), not tap.expanded))
        )
        last = max(number for number, _ in self._taps)
        modules = [copy.deepcopy(network.get_submodule(name)) for name in names[: last + 1]]
        for module, tap in zip(modules, body, strict=False):
            if tap.stride > output_stride:
                _dilate(module, tap.stride // output_stride)
        self.stem = modules[0]
        self.blocks = nn.Sequential(*modules[1 : 1 + len(arch.blocks)])
        self.conv_head = modules[-1] if len(modules) == len(body) and body[-1].name == "conv_head" else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (b, 3, h, w) to feature maps (b, channels, h / reduction, w / reduction), as `feature_info` lists."""
        x = x[:, : self.channels] if x.shape[1] > self.channels else x
        maps = []
        for number, module in enumerate([self.stem, *self.blocks, *([self.conv_head] if self.conv_head else [])]):
            if (number, True) in self._taps:
                expanded, x = _expanded(module, x)
                maps.append(expanded)
            else:
                x = module(x)
            if (number, False) in self._taps:
                maps.append(x)
        return maps


def features_of(network: nn.Module, arch: Architecture, output_stride: int = 32) -> Features:
    """The backbone of a network, with its weights: `usual_taps`."""
    return Features(network, arch, usual_taps(arch), output_stride)


def usual_taps(arch: Architecture) -> list[Tap]:
    """The last module at each of the strides 4, 8, 16 and 32 that the network has; its last one where it has none."""
    body = body_of(arch)
    last = {tap.stride: tap for tap in body if tap.stride in STRIDES}
    return list(last.values()) or body[-1:]


def _dilate(module: nn.Module, dilation: int) -> None:
    """Give a block's spatial convolution this dilation in place of its stride."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size[0] > 1:
            part.stride, part.dilation = (1, 1), (dilation, dilation)
            part.padding = tuple(dilation * (kernel // 2) for kernel in part.kernel_size)
        elif isinstance(part, nn.AvgPool2d):
            part.stride = 1


def _expanded(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What an MBConv's expansion gives, and what the block gives."""
    assert isinstance(block, MBConv)
    expanded = block.act1(block.bn1(block.conv_pw(x)))
    out = block.se(block.act2(block.bn2(block.conv_dw(expanded))))
    out = block.bn3(block.conv_pwl(out))
    return expanded, out if block.shortcut is None else out + block.shortcut(x)
