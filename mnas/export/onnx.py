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

OPSET = 18  # the exporter's own; 17 would need a conversion
IR_VERSION = 8  # the oldest for opset 18, which onnxruntime reads since 1.14
TOLERANCE = 1e-4
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(network: Network, resolution: int, path: Path) -> Path:
    """Write `images` (batch, 3, height, width) to `logits` (batch, n) as ONNX, all but the 3 and n free.

    MnasError where onnxruntime computes other logits than PyTorch; MissingDependency without the packages for it.
    """
    onnx, _, onnxruntime = (_package(name) for name in PACKAGES)
    plain = plain_copy(network)
    model = _converted(plain, resolution)
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    _check(plain, data, resolution, path, onnxruntime)
    write_atomic(path, data)
    return path


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingDependency(f"ONNX export needs {name}: pip install {' '.join(PACKAGES)}") from None


def _converted(network: nn.Module, size: int) -> Any:
    """The ModelProto, by way of an example of `size` pixels."""
    # one line for each operator of a torchvision that is not there and not needed
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        # torch.export's own use of a deprecated class
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        program = torch.onnx.export(
            network, (torch.zeros(2, 3, size, size),), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=["images"], output_names=["logits"], external_data=False,
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def _strip(model: Any) -> None:
    """Drop what the exporter adds: stack traces with this machine's paths, and the sizes of inner feature maps.

    It states wrong sizes where weights lie in channels_last (torch 2.13); runtimes infer the right ones themselves.
    """
    model.ir_version = IR_VERSION
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _check(network: nn.Module, data: bytes, resolution: int, path: Path, onnxruntime: Any) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings would go to stderr
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in ((1, resolution, resolution), (8, resolution, resolution), (1, resolution + 32, 64)):
        images = torch.randn(batch, 3, height, width, generator=generator)
        got = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        check_equal(network, images, got, TOLERANCE, f"{path} at batch {batch}, {height}x{width}")
