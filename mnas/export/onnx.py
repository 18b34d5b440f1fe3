"""A network as one ONNX file for any batch and image size."""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnas.errors import MissingDependency
from mnas.export.checks import check_equal, plain_copy
from mnas.io.files import write_atomic
from mnas.nn.network import Network

OPSET = 18  # what the exporter writes; 17 would need a conversion
IR_VERSION = 8  # the oldest that allows opset 18; onnxruntime reads it since 1.14
TOLERANCE = 1e-4
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(network: Network, size: int, path: str | Path) -> Path:
    """Write `images` (batch, 3, height, width) to `logits` (batch, n) as ONNX; batch, height and width are free.

    Raises MnasError if onnxruntime's logits differ from PyTorch's, MissingDependency if a package is not installed.
    """
    path = Path(path)
    onnx, _, onnxruntime = (_import(name) for name in PACKAGES)
    plain = plain_copy(network)
    model = _convert(plain, size)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings would go to stderr
    _check(plain, size, onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]), path)
    write_atomic(path, data)
    return path


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingDependency(f"ONNX export needs {name}: pip install {' '.join(PACKAGES)}") from None


def _convert(network: nn.Module, size: int) -> Any:
    """The network as an onnx.ModelProto, traced with images of `size` pixels."""
    # the exporter logs one line for each operator of torchvision if that is not installed
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        # torch.export itself uses a deprecated class
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        program = torch.onnx.export(
            network, (torch.zeros(2, 3, size, size),), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=["images"], output_names=["logits"], external_data=False,
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _strip(model: Any) -> None:
    """Remove stack traces, which hold this machine's paths, and the shapes of the inner feature maps.

    The exporter states wrong shapes for weights in channels_last (torch 2.13); runtimes infer the right ones.
    """
    model.ir_version = IR_VERSION
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _check(network: nn.Module, size: int, session: Any, path: Path) -> None:
    """Compare the session's logits with the network's for several batches and image sizes."""
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in ((1, size, size), (8, size, size), (1, size + 32, 64)):
        images = torch.randn(batch, 3, height, width, generator=generator)
        logits = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        check_equal(network, images, logits, TOLERANCE, f"{path} at batch {batch}, {height}x{width}")
