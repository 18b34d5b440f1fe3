"""Formats of exported networks: one small module each, imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor

from mnas.data.reading import AS_USUAL, Reading
from mnas.errors import BadInput, nearest
from mnas.io.size import Size
from mnas.nn.network import Network
from mnas.space.architecture import Architecture

FILES = {
    "pytorch": "model.py", "safetensors": "model.safetensors", "onnx": "model.onnx", "litert": "model.tflite",
    "executorch": "model.pte", "openvino": "model.xml", "torch_export": "model.pt2", "timm": "timm_model.py",
}  # fmt: skip
"""The formats, and the name of each one's file in a trained network's folder."""
QUANTISED = ("onnx", "litert", "executorch", "openvino")
"""Formats that have int8 files."""
EMBEDDED = ("onnx", "litert", "openvino")
"""Formats whose files can take pixels."""
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Model:
    """A trained network with what its files say of it."""

    network: Network
    architecture: Architecture
    """With the resolution that it was trained for."""
    classes: tuple[str, ...]
    title: str
    reading: Reading = AS_USUAL
    """How image files become its input."""

    @property
    def size(self) -> Size:
        """Of an image, in pixels."""
        return self.architecture.resolution

    def input_shape(self, batch: int = 1) -> tuple[int, int, int, int]:
        """(b, c, h, w)."""
        return self.architecture.input_shape(batch)


class Format(Protocol):
    """The names of a format's module.

    tests/export/formats/test_formats.py is the contract that every format passes.
    """

    RUNTIME: str | None
    """What executes the file; None where mnas reads it itself."""
    FREE_BATCH: bool
    """Whether one file takes any number of images at once."""

    def write(self, model: Model, path: Path) -> list[Path]:
        """Write the file, and those that go with it. Raises MissingDependency, and BadInput for what it cannot say."""


class QuantisingFormat(Format, Protocol):
    """A format that has int8 files too."""

    def quantise(self, model: Model, images: Tensor, kept: Collection[str], path: Path) -> list[Path]:
        """Write the network in int8, with ranges from normalised images (n, c, h, w).

        `kept`: names of convolutions and linear layers that stay in float32.
        """

    def operators(self, path: Path) -> dict[str, int]:
        """Of each operator that does not compute in int8: its name and how often the file has it."""


class EmbeddingFormat(Format, Protocol):
    """A format whose files can normalise pixels themselves."""

    def take_pixels(self, source: Path, model: Model, target: Path) -> list[Path]:
        """Write the file `source` once more, for uint8 pixels (b, h, w, c) as input."""


def format_names() -> list[str]:
    """The names of all formats."""
    return list(FILES)


def get_format(name: str) -> Format:
    """The format called `name`; MissingDependency with the pip command where a package of it is missing."""
    if name not in FILES:
        raise BadInput(f"unknown format '{name}'{nearest(name, FILES)}")
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def file_name(name: str, precision: str, pixels: bool = False) -> str:
    """The name of a format's file: model.onnx, model_int8.onnx, or model_pixels.onnx for uint8 pixels."""
    path = Path(FILES[name])
    words = [path.stem, *([precision] if precision != "fp32" else []), *(["pixels"] if pixels else [])]
    return f"{'_'.join(words)}{path.suffix}"


def stated_in(path: Path) -> tuple[str, bool]:
    """The precision of a file, and whether it takes pixels, by its name as `file_name` makes it."""
    words = path.stem.split("_")
    return "int8" if "int8" in words else "fp32", "pixels" in words


def quantising(form: Format) -> QuantisingFormat | None:
    """The format, if it has int8 files."""
    return cast(QuantisingFormat, form) if hasattr(form, "quantise") else None


def embedding(form: Format) -> EmbeddingFormat | None:
    """The format, if its files can take pixels."""
    return cast(EmbeddingFormat, form) if hasattr(form, "take_pixels") else None
