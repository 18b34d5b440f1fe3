"""What XNNPACK and LiteRT's quantizer cannot take: int8 scales that are too far apart, and biases beyond 32 bits.

LiteRT 2.3 does not survive scales that XNNPACK refuses, and its quantizer (0.11) lets a bias overflow. It needs a dead
channel or branch, and networks with fresh weights have many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mnas.export.tflite_graph import schema

LEAST = 1e-4
"""Of any range."""
PRODUCT = 1 / 128
"""The least part of its input's range times its largest weight's step that a convolution's or mean's output has."""
SUMMAND = 1 / 256
"""The least part of a sum's range that each summand has."""
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
LARGEST_BIAS = 2.0**30
"""In steps of the accumulator."""


def beyond_32_bits(ranges: Mapping[str, Mapping[str, Any]], model: Any) -> list[str]:
    """The outputs of the operators of a float32 model (schema.ModelT) whose bias is too large beside their weights."""
    graph, found = model.subgraphs[0], []

    def values(tensor: int) -> Any:
        data = model.buffers[graph.tensors[tensor].buffer].data
        return np.frombuffer(data.tobytes(), np.float32).reshape(graph.tensors[tensor].shape)

    for operator in graph.operators:
        kind = model.operatorCodes[operator.opcodeIndex].builtinCode
        if kind not in [getattr(schema.BuiltinOperator, name) for name in WEIGHTED]:
            continue
        names = [_name(graph, int(tensor)) for tensor in (operator.inputs[0], operator.outputs[0])]
        weight, bias = values(operator.inputs[1]), np.abs(values(operator.inputs[2]))
        channel = weight.ndim - 1 if kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D else 0
        step = np.abs(np.moveaxis(weight, channel, 0).reshape(len(bias), -1)).max(1) / 127
        of_input = ranges.get(names[0])
        scale = float(np.max(of_input["max"]) - np.min(of_input["min"])) / 255 if of_input else 0.0
        if np.any((bias > LARGEST_BIAS * scale * step) & (step > 0)):
            found.append(names[1])
    return found


def widened(ranges: Mapping[str, Mapping[str, Any]], model: Any) -> dict[str, dict[str, Any]]:
    """The `min` and `max` of each tensor of a float32 model (schema.ModelT), those of activations wide enough."""
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    graph = model.subgraphs[0]
    found = {name: dict(values) for name, values in ranges.items()}

    def constant(tensor: int) -> Any:
        return model.buffers[graph.tensors[tensor].buffer].data

    def width(tensor: int) -> float:
        values = found.get(_name(graph, tensor))
        return float(np.max(values["max"]) - np.min(values["min"])) if values else 0.0

    def widen(tensor: int, least: float) -> None:
        values = found.get(_name(graph, tensor))
        if values and constant(tensor) is None and width(tensor) < least:
            values["max"] = values["max"] + np.float32(least - width(tensor))

    for operator in graph.operators:
        code = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        inputs, out = [int(tensor) for tensor in operator.inputs], int(operator.outputs[0])
        for tensor in (*inputs, out):
            widen(tensor, LEAST)
        if code in WEIGHTED:
            step = float(np.abs(np.frombuffer(constant(inputs[1]).tobytes(), np.float32)).max()) / 127
            widen(out, width(inputs[0]) * step * PRODUCT)
        elif code in ("MEAN", "AVERAGE_POOL_2D"):
            widen(out, width(inputs[0]) * PRODUCT)
        elif code == "ADD":
            for tensor in inputs[:2]:
                widen(tensor, width(out) * SUMMAND)
    return found


def _name(graph: Any, tensor: int) -> str:
    text = graph.tensors[tensor].name
    return str(text.decode() if isinstance(text, bytes) else text)
