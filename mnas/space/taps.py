"""Where a network's body is tapped for feature maps: its modules, their channels and strides. Imports no torch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from mnas.errors import BadInput

if TYPE_CHECKING:
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


@functools.lru_cache(maxsize=64)
def body_of(arch: Architecture) -> tuple[Tap, ...]:
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
    return tuple(taps)


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


def usual_taps(arch: Architecture) -> list[Tap]:
    """The last module at each of the strides 4, 8, 16 and 32 that the network has; its last one where it has none."""
    body = body_of(arch)
    last = {tap.stride: tap for tap in body if tap.stride in STRIDES}
    return list(last.values()) or [body[-1]]


def _at(arch: Architecture, stride: int) -> list[Tap]:
    body = body_of(arch)
    if found := [tap for tap in body if tap.stride == stride]:
        return found
    there = ", ".join(str(one) for one in sorted({tap.stride for tap in body}))
    raise BadInput(f"feature maps at stride {stride}: this network has {there}")
