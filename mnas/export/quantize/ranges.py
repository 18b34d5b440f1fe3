"""Ranges of activations wide enough for XNNPACK, which refuses int8 scales that are too far apart.

LiteRT 2.3 does not survive the refusal. It needs a dead channel or branch, and networks with fresh weights have many.
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


def widened(ranges: Mapping[str, Mapping[str, Any]], content: bytes) -> dict[str, dict[str, Any]]:
    """The `min` and `max` of each tensor of a float32 .tflite file, those of activations wide enough."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    graph = model.subgraphs[0]
    found = {name: dict(values) for name, values in ranges.items()}

    def name(tensor: int) -> str:
        text = graph.tensors[tensor].name
        return str(text.decode() if isinstance(text, bytes) else text)

    def constant(tensor: int) -> Any:
        return model.buffers[graph.tensors[tensor].buffer].data

    def width(tensor: int) -> float:
        values = found.get(name(tensor))
        return float(np.max(values["max"]) - np.min(values["min"])) if values else 0.0

    def widen(tensor: int, least: float) -> None:
        values = found.get(name(tensor))
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
