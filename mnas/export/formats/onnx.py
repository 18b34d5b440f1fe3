"""ONNX: float32 for any batch and size, int8 by onnxruntime's quantizer."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from mnas.export.formats import Model
from mnas.export.onnx import export_onnx
from mnas.export.pixels.onnx import with_pixel_input
from mnas.export.quantize.onnx import float_operators, quantised_onnx
from mnas.io.files import write_atomic
from mnas.io.size import sides

RUNTIME = "onnxruntime"
FREE_BATCH = True


def write(model: Model, path: Path) -> list[Path]:
    return [export_onnx(model.network, model.size, path)]


def quantise(model: Model, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
    write_atomic(path, quantised_onnx(model.network, images, kept))
    return [path]


def operators(path: Path) -> dict[str, int]:
    return float_operators(path)


def take_pixels(source: Path, model: Model, target: Path) -> list[Path]:
    write_atomic(target, with_pixel_input(source.read_bytes(), *sides(model.size)))
    return [target]
