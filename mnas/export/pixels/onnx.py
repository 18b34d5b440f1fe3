"""An ONNX model with a uint8 input (b, h, w, c) called pixels before its own."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnas.export.pixels import factors


def with_pixel_input(content: bytes, height: int, width: int) -> bytes:
    """The model of `content`, which takes normalised images (b, c, h, w), for pixels of height x width."""
    model = onnx.load_from_string(content)
    graph = model.graph
    images = graph.input[0]
    channels = images.type.tensor_type.shape.dim[1].dim_value
    scale, offset = factors(channels)
    weights = {
        "pixels_scale": np.array(scale, np.float32), "pixels_offset": np.array(offset, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["pixels"], ["pixels_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels_float", "pixels_scale"], ["pixels_scaled"]),
        helper.make_node("Add", ["pixels_scaled", "pixels_offset"], ["pixels_normalised"]),
        helper.make_node("Transpose", ["pixels_normalised"], [images.name], perm=[0, 3, 1, 2]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", height, width, channels])
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
