"""The frame that a layer is timed in: a convolution before it makes its input, a pooling after it reads its output.

Runtimes that lay out memory and fuse across layers run a model of a single layer unlike that layer in a network: ONNX
Runtime converts the input into blocks of channels and the output back, and adds the shortcut in a pass of its own; and
every inference has a fixed cost. The frame without the layer, which is the convolution and a pooling of its output, is
timed too and subtracted. A layer's time then contains the pooling of its output minus that of its input, and over the
layers of a network these cancel.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mnas.io.size import sides
from mnas.nn.dense import head_alone, head_input
from mnas.nn.network import module_of
from mnas.space.layer import HEADS, Layer

FRAME_CHANNELS = 1


def frame(layer: Layer) -> Layer:
    """The layer that makes the input of `layer` from one channel; a trivial one where `layer` takes images itself.

    The feature maps of a head are made by the head of no classes.
    """
    if layer.operator in HEADS:
        return replace(layer, out_channels=0)
    if layer.operator == "linear":
        return Layer("linear", 1, FRAME_CHANNELS, layer.in_channels)
    if _begins(layer):
        return Layer("linear", 1, FRAME_CHANNELS, 1)
    return Layer("conv", layer.size, FRAME_CHANNELS, layer.in_channels)


def timed_module(layer: Layer, batch: int = 1, *, in_frame: bool) -> nn.Module:
    """The module timed for a layer, in eval mode: the layer alone, or in its frame. For a frame, the frame alone.

    The batch is that of a head alone, whose feature maps lie in one piece of memory.
    """
    if layer.operator in HEADS:
        return head_alone(layer, batch, in_frame=in_frame)
    if not in_frame:
        return module_of(layer).eval()
    opening = [] if _begins(layer) else [module_of(frame(layer))]
    closing = [] if layer.operator in ("linear", "pool") else [nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*opening, module_of(layer), *closing).eval()


def input_shape(layer: Layer, batch: int, *, in_frame: bool) -> tuple[int, ...]:
    """The input shape of `timed_module`: (b, c) or (b, c, h, w); of a head alone the values of all its maps, (n,)."""
    if layer.operator in HEADS:
        return head_input(layer, batch, in_frame=in_frame)
    first = frame(layer) if in_frame and not _begins(layer) else layer
    return (batch, first.in_channels) if first.operator == "linear" else (batch, first.in_channels, *sides(first.size))


def _begins(layer: Layer) -> bool:
    """Whether it needs no frame before it: it takes images, or is a frame itself."""
    return layer.takes_images or layer.in_channels == FRAME_CHANNELS
