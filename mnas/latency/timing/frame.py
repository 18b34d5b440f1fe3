"""A layer as in a network: between a convolution that makes its input and a pooling that reads its output.

A runtime that lays out memory and fuses across layers treats a model of a single layer otherwise than that layer in a
network: ONNX Runtime brings its input into blocks of channels first, its output back last, and adds its shortcut in a
pass of its own; and each run has a cost of its own. What the frame takes around nothing is timed too, and taken off:
the same convolution, with a pooling of what that made. So a layer's time has the pooling of its output, less that of
its input: over the layers of a network these cancel.
"""

from __future__ import annotations

from torch import nn

from mnas.nn.network import module_of
from mnas.space.layer import Layer

FRAME_CHANNELS = 1


def frame(layer: Layer) -> Layer:
    """What makes the input of `layer` out of one channel; where that takes images itself, hardly more than a run."""
    if layer.operator == "linear":
        return Layer("linear", 1, FRAME_CHANNELS, layer.in_channels)
    if _begins(layer):
        return Layer("linear", 1, FRAME_CHANNELS, 1)
    return Layer("conv", layer.size, FRAME_CHANNELS, layer.in_channels)


def timed_module(layer: Layer, *, in_frame: bool) -> nn.Module:
    """What is timed for a layer, in eval mode: it alone, or in its frame; of what `frame` gives, the frame."""
    if not in_frame:
        return module_of(layer).eval()
    opening = [] if _begins(layer) else [module_of(frame(layer))]
    closing = [] if layer.operator in ("linear", "pool") else [nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*opening, module_of(layer), *closing).eval()


def input_shape(layer: Layer, batch: int, *, in_frame: bool) -> tuple[int, ...]:
    """Of the input that `timed_module` takes: (b, c) or (b, c, h, w)."""
    first = frame(layer) if in_frame and not _begins(layer) else layer
    return (batch, first.in_channels) if first.operator == "linear" else (batch, first.in_channels, *2 * (first.size,))


def _begins(layer: Layer) -> bool:
    """Whether nothing comes before it: it takes images, or is a frame's own."""
    return layer.takes_images or layer.in_channels == FRAME_CHANNELS
