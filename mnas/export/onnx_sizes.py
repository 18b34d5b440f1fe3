"""The sizes of feature maps in an ONNX model of free input sizes, stated so that runtimes see which are equal."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

MAPS = ("Add", "AveragePool", "Clip", "Conv", "HardSwish", "Mul", "Relu", "Sigmoid")
"""Operators that give feature maps as large as their first input, or smaller by a stride; `Pad` and `Slice` of channels
are left out, and with them what follows."""


def stated_sizes(
    nodes: Sequence[onnx.NodeProto], channels: dict[str, int], first: str, shape: Sequence[int | str]
) -> list[onnx.ValueInfoProto]:
    """The shapes of the feature maps that `nodes` make of the value `first` (b, c, h, w) with a name as a free size.

    `channels` has the output channels of each convolution by the name of its weight. Half of `height` is `height/2`,
    rounded up. Without them onnxruntime 1.31 does not see behind a squeeze-and-excitation that a map and its shortcut
    have one shape, and does not fuse them (findings/onnxruntime-free-size-shortcut.sh).
    """
    names = [str(side) for side in shape[2:]]
    maps = {first: (int(shape[1]), 1)}
    for node in nodes:
        if node.op_type in MAPS and node.input[0] in maps:
            filters, scale = maps[node.input[0]]
            filters = channels[node.input[1]] if node.op_type == "Conv" else filters
            maps[node.output[0]] = filters, scale * _stride(node)
    del maps[first]
    return [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [shape[0], filters, *(f"{side}/{scale}" if scale > 1 else side for side in names)]
        ) for name, (filters, scale) in maps.items()
    ]  # fmt: skip


def _stride(node: onnx.NodeProto) -> int:
    return next((attribute.ints[0] for attribute in node.attribute if attribute.name == "strides"), 1)
