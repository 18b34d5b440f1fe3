"""int8 for OpenVINO, by nncf, in a process of its own: its import changes how a process starts others, and its logs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mnas.errors import MissingDependency, MnasError
from mnas.export.openvino import ov, save_ir, write_ir

MOVES = ("Input", "Output", "Reorder", "Reshape", "Const", "Convert", "Transpose")
"""Kinds of nodes of a compiled model that compute nothing."""


def write_quantised_ir(onnx_model: Any, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
    """Write an onnx.ModelProto as int8 .xml and .bin, with float32 input and output; returns both paths.

    Ranges are those of normalised `images` (n, c, h, w). The layers named in `kept` stay in float32.
    """
    if importlib.util.find_spec("nncf") is None:
        raise MissingDependency("int8 for openvino needs a package: pip install nncf")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ir(onnx_model, folder / "float.xml")
        np.save(folder / "images.npy", images.numpy())
        (folder / "kept.json").write_text(json.dumps(list(kept)))
        command = [sys.executable, "-m", "mnas.export.quantize.nncf_process", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise MnasError(f"{path}: nncf cannot quantise the network: {lines[-1]}")
        return save_ir(ov.Core().read_model(folder / "int8.xml"), path)


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
