"""A .tflite model with a uint8 input (1, h, w, c) called pixels before its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnas.export.pixels import factors
from mnas.export.tflite_graph import Buffer, packed, parsed, schema

BUILTIN, OPTIONS, TYPES = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType


def with_pixel_input(content: bytes) -> bytes:
    """The model of `content`, which takes one normalised image (1, h, w, c), for the pixels of one."""
    model = parsed(content)
    model.buffers = [_inside(buffer, content) for buffer in model.buffers]
    graph = model.subgraphs[0]
    images = int(graph.inputs[0])
    shape = [int(side) for side in graph.tensors[images].shape]

    def tensor(name: str, of: list[int], kind: int, buffer: int = 0) -> int:
        graph.tensors.append(schema.TensorT(of, kind, buffer, name))
        return len(graph.tensors) - 1

    def constant(name: str, values: list[float]) -> int:
        model.buffers.append(Buffer(np.frombuffer(np.array(values, np.float32).tobytes(), np.uint8)))
        return tensor(name, [len(values)], TYPES.FLOAT32, len(model.buffers) - 1)

    def operator(code: int, inputs: list[int], out: int, kind: int, options: Any) -> Any:
        model.operatorCodes.append(schema.OperatorCodeT(code, version=1, builtinCode=code))
        return schema.OperatorT(len(model.operatorCodes) - 1, inputs, [out], kind, options)

    scale, offset = factors(shape[-1])
    pixels = tensor("pixels", shape, TYPES.UINT8)
    values, scaled = (tensor(name, shape, TYPES.FLOAT32) for name in ("pixels_float", "pixels_scaled"))
    casting = schema.CastOptionsT(inDataType=TYPES.UINT8, outDataType=TYPES.FLOAT32)
    graph.operators = [
        operator(BUILTIN.CAST, [pixels], values, OPTIONS.CastOptions, casting),
        operator(BUILTIN.MUL, [values, constant("scale", scale)], scaled, OPTIONS.MulOptions, schema.MulOptionsT()),
        operator(BUILTIN.ADD, [scaled, constant("offset", offset)], images, OPTIONS.AddOptions, schema.AddOptionsT()),
        *graph.operators,
    ]
    graph.inputs = [pixels]
    model.signatureDefs[0].inputs = [schema.TensorMapT("pixels", pixels)]
    return packed(model)


def _inside(buffer: Any, content: bytes) -> Any:
    """The same constant inside the model: LiteRT's quantizer writes them behind it in the file."""
    if buffer.offset > 1:
        return Buffer(np.frombuffer(content, np.uint8, buffer.size, buffer.offset))
    return buffer if buffer.data is None else Buffer(buffer.data)
