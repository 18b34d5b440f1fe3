"""OpenVINO's own format, two files (.xml and .bin): float32, and int8 by nncf."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from mnas.errors import MissingDependency
from mnas.export.checks import plain_copy
from mnas.export.formats import Model
from mnas.export.onnx_graph import free_batch_model

try:
    from mnas.export.openvino import write_ir
    from mnas.export.pixels.openvino import write_with_pixel_input
except ImportError as error:
    raise MissingDependency(f"format openvino needs a package ({error}): pip install openvino") from None

RUNTIME = "openvino"
FREE_BATCH = True


def write(model: Model, path: Path) -> list[Path]:
    return write_ir(free_batch_model(plain_copy(model.network), model.input_shape()), path)


def quantise(model: Model, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
    from mnas.export.quantize.openvino import write_quantised_ir

    return write_quantised_ir(free_batch_model(plain_copy(model.network), model.input_shape()), images, kept, path)


def operators(path: Path) -> dict[str, int]:
    from mnas.export.quantize.openvino import float_operators

    return float_operators(path)


def take_pixels(source: Path, model: Model, target: Path) -> list[Path]:
    del model
    return write_with_pixel_input(source, target)
