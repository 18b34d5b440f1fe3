"""int8 for onnxruntime, by its own quantizer, in the form that its CPU kernels run fastest."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from mnas.export.checks import plain_copy
from mnas.export.onnx_graph import free_batch_model
from mnas.io.silence import silence
from mnas.nn.network import Network

BATCH = 16
"""Calibration images that run at once."""
INTEGER = ("QLinear", "QuantizeLinear", "DequantizeLinear", "QGemm", "ConvInteger", "MatMulInteger")
"""How the names of operators begin that compute in integers, or pass to and from them."""
MOVES = ("Flatten", "Reshape", "Identity", "Squeeze", "Slice", "Pad")
"""Operators that compute nothing."""


def quantised_onnx(network: Network, images: Tensor, kept: Collection[str] = ()) -> bytes:
    """The content of an .onnx file in int8: `images` float32 (b, c, h, w) to `logits`, with any b.

    Weights are signed, with a scale for each output channel; activations unsigned: onnxruntime (1.31) has fast kernels
    for these, and leaves a third of the convolutions in float32 where activations are signed. Ranges are those of
    normalised `images` (n, c, h, w). The layers named in `kept` stay in float32.
    """
    return quantised_model(free_batch_model(plain_copy(network), images.shape), images, kept)


def quantised_model(model: onnx.ModelProto, images: Tensor, kept: Collection[str] = ()) -> bytes:
    """The same of a model that `onnx_graph` wrote."""
    with silence():  # its import gives the root logger a handler
        quantization: Any = importlib.import_module("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantization.quantize_static(
            source, target, _reader(model.graph.input[0], images),
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            per_channel=True, nodes_to_exclude=list(kept),
        )  # fmt: skip
        return target.read_bytes()


def _reader(given: onnx.ValueInfoProto, images: Tensor) -> Any:
    calibration: Any = importlib.import_module("onnxruntime.quantization.calibrate")

    class Reader(calibration.CalibrationDataReader):  # type: ignore[misc]
        """Batches of the images, once."""

        def __init__(self) -> None:
            batch = given.type.tensor_type.shape.dim[0].dim_value or BATCH  # 0: free
            self.left = list(torch.split(images, batch))[::-1]

        def get_next(self) -> dict[str, Any] | None:
            return {given.name: np.ascontiguousarray(self.left.pop().numpy())} if self.left else None

    return Reader()


def float_operators(path: Path) -> dict[str, int]:
    """Of each operator that onnxruntime does not compute in int8: its name and how often its optimised graph has it."""
    ort: Any = importlib.import_module("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(optimised)
        # not the last level, whose graphs hold for this machine alone
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(optimised).graph.node
    return dict(Counter(node.op_type for node in nodes if not node.op_type.startswith((*INTEGER, *MOVES))))


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without the quantizer's advice, on the root logger, to preprocess the model: that makes it slower."""
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.handlers[:] = handlers  # logging.warning gives the root logger one, even where it is silent
