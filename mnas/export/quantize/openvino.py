"""int8 for OpenVINO, by nncf."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mnas.export.openvino import ov, save_ir, write_ir
from mnas.export.quantize.nncf import quantise

MOVES = ("Input", "Output", "Reorder", "Reshape", "Const", "Convert", "Transpose")
"""Kinds of nodes of a compiled model that compute nothing."""


def write_quantised_ir(onnx_model: Any, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
    """Write an onnx.ModelProto as int8 .xml and .bin, with float32 input and output; returns both paths.

    Ranges are those of normalised `images` (n, c, h, w). The layers named in `kept` stay in float32.
    """
    with quantised_model(onnx_model, images, kept) as model:
        return save_ir(model, path)


@contextmanager
def quantised_model(onnx_model: Any, images: Tensor, kept: Collection[str] = ()) -> Iterator[Any]:
    """The same as a model of OpenVINO, whose weights are in a file as long as the block lasts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ir(onnx_model, folder / "float.xml")
        np.save(folder / "images.npy", images.detach().numpy())
        (folder / "kept.json").write_text(json.dumps(list(kept)))
        quantise(folder)
        yield ov.Core().read_model(folder / "int8.xml")


def float_operators(path: Path) -> dict[str, int]:
    """Of each operator that computes in float32: its name and how often the compiled model has it."""
    compiled = ov.Core().compile_model(ov.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    counts = Counter[str]()
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        kind, precision = (str(about[key].astype(str)) for key in ("layerType", "runtimePrecision"))
        if precision == "f32" and kind not in MOVES:
            counts[kind] += 1
    return dict(counts)
