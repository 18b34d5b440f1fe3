"""LiteRT (TensorFlow Lite): float32 written operator by operator, int8 by LiteRT's quantizer."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from mnas.errors import MissingDependency
from mnas.export.checks import plain_copy
from mnas.export.formats import Model
from mnas.io.files import write_atomic

try:
    from mnas.export.pixels.litert import with_pixel_input
    from mnas.export.tflite_graph import tflite_model
except ImportError as error:
    raise MissingDependency(
        f"format litert needs a package ({error}): pip install ai-edge-litert flatbuffers"
    ) from None

RUNTIME = "litert"
FREE_BATCH = False


def write(model: Model, path: Path) -> list[Path]:
    write_atomic(path, tflite_model(plain_copy(model.network), torch.zeros(model.input_shape())))
    return [path]


def quantise(model: Model, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
    from mnas.export.quantize.litert import quantised_tflite

    write_atomic(path, quantised_tflite(plain_copy(model.network), images, kept))
    return [path]


def operators(path: Path) -> dict[str, int]:
    from mnas.export.quantize.litert import float_operators

    return float_operators(path.read_bytes())


def take_pixels(source: Path, model: Model, target: Path) -> list[Path]:
    del model
    write_atomic(target, with_pixel_input(source.read_bytes()))
    return [target]
