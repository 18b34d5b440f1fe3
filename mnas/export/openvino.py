"""OpenVINO's own format: the graph in an .xml file and the weights in a .bin file beside it."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

from mnas.io.files import write_atomic

ov: Any = importlib.import_module("openvino")


def write_ir(onnx_model: Any, path: Path) -> list[Path]:
    """Write an onnx.ModelProto as float32 .xml and .bin; returns both paths."""
    return save_ir(ov.Core().read_model(onnx_model.SerializeToString()), path)


def save_ir(model: Any, path: Path) -> list[Path]:
    """Write an OpenVINO model as it is, without the compression to float16 that is save_model's default."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        ov.save_model(model, written, compress_to_fp16=False)
        weights = path.with_suffix(".bin")
        write_atomic(weights, written.with_suffix(".bin").read_bytes())
        write_atomic(path, written.read_bytes())
    return [path, weights]
