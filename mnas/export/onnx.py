"""A network as one ONNX file for any batch and image size."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnas.errors import BadInput, MissingDependency
from mnas.export.checks import check_equal, plain_copy
from mnas.io.files import write_atomic
from mnas.io.size import Size, sides
from mnas.nn.network import Network

OPSET = 18
"""The version that is written; older ones are made of it."""
IR_VERSIONS = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}
"""Opset -> the oldest version of the format that allows it; onnxruntime reads 8 since 1.14."""
TOLERANCE = 1e-4
PACKAGES = ("onnx", "onnxruntime")


def export_onnx(network: Network, size: Size, path: str | Path, opset: int = OPSET) -> Path:
    """Write `images` (batch, 3 or 1, height, width) to `logits` (batch, n) as ONNX; batch, height and width are free.

    `opset`: an older version of the operators, for older readers. Raises MnasError if onnxruntime's logits differ from
    PyTorch's, MissingDependency if a package is not installed, BadInput for an opset that is not written.
    """
    path = Path(path)
    check_opset(opset)
    onnx, onnxruntime = (_import(name) for name in PACKAGES)
    plain = plain_copy(network)
    model = _model(plain)
    if opset != OPSET:
        _lower(model, opset)
    model.ir_version = IR_VERSIONS[opset]
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings would go to stderr
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    _check(plain, (network.channels, *sides(size)), session, path)
    write_atomic(path, data)
    return path


def require_exporters() -> None:
    """Import what `export_onnx` needs: a training that could not be exported is not begun. Raises MissingDependency."""
    for name in PACKAGES:
        _import(name)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingDependency(f"ONNX export needs {name}: pip install {' '.join(PACKAGES)}") from None


def _model(network: Network) -> Any:
    """The network as an onnx.ModelProto, node for node what a search measured under onnxruntime."""
    from mnas.export.onnx_graph import network_model  # needs onnx

    return network_model(network, ("batch", network.channels, "height", "width"))


def check_opset(opset: int) -> None:
    """Raises BadInput for a version of the operators that is not written."""
    if opset not in IR_VERSIONS:
        raise BadInput(f"--opset {opset}: expected {min(IR_VERSIONS)} to {OPSET}")


def _lower(model: Any, opset: int) -> None:
    """Write the operators of a network as they were in an older opset, from 11 on.

    onnx's own converter has no way down for Pad (1.23.2, see findings/): of mnas's operators only two have changed.
    """
    helper, numpy_helper = (importlib.import_module(f"onnx.{name}") for name in ("helper", "numpy_helper"))
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type == "ReduceMean" and opset < 18:  # the axes became an input
            axes = numpy_helper.to_array(weights[node.input[1]]).tolist()
            keepdims = next((one.i for one in node.attribute if one.name == "keepdims"), 1)
            nodes.append(helper.make_node("ReduceMean", node.input[:1], node.output, axes=axes, keepdims=keepdims))
        elif node.op_type == "HardSwish" and opset < 14:  # it did not exist
            nodes += _hard_swish(node.input[0], node.output[0], helper)
        else:
            nodes.append(node)
    if any(node.op_type == "HardSwish" for node in model.graph.node) and opset < 14:
        numbers = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, np.float32), f"hard_swish_{name}")
            for name, value in numbers.items()
        )
    used = {name for node in nodes for name in node.input}
    kept = [weight for weight in model.graph.initializer if weight.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    next(entry for entry in model.opset_import if not entry.domain).version = opset


def _hard_swish(x: str, y: str, helper: Any) -> list[Any]:
    """x * clip(x + 3, 0, 6) / 6."""
    steps = [
        ("Add", [x, "hard_swish_three"]), ("Clip", [f"{y}/0", "hard_swish_zero", "hard_swish_six"]),
        ("Mul", [f"{y}/1", x]), ("Mul", [f"{y}/2", "hard_swish_sixth"]),
    ]  # fmt: skip
    outputs = [f"{y}/0", f"{y}/1", f"{y}/2", y]
    return [helper.make_node(op, inputs, [out]) for (op, inputs), out in zip(steps, outputs, strict=True)]


def _check(network: Network, image: tuple[int, int, int], session: Any, path: Path) -> None:
    """Compare the session's logits with the network's for several batches and sizes of an image (c, h, w)."""
    generator, (channels, *shape) = torch.Generator().manual_seed(0), image
    for batch, height, width in ((1, *shape), (8, *shape), (1, shape[0] + 32, 64)):
        images = torch.randn(batch, channels, height, width, generator=generator)
        logits = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        check_equal(network, images, logits, TOLERANCE, f"{path} at batch {batch}, {height}x{width}")
