"""What is asked of a task's files and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

from PIL import Image
from torch import Tensor, nn

from mnas.export.dense_source import HeadSource
from mnas.io.size import Size

Outputs = tuple[Tensor, ...]
"""What a file gives for one image."""


class Likeness(NamedTuple):
    """How like the outputs of two files are."""

    agreement: float
    """The part of the pixels of equal class, or of the boxes that both have."""
    difference: float
    """The largest difference of what both have."""


class Form(Protocol):
    """The form of a task's answers. `outputs` are of one image, as the file model.onnx gives them."""

    onnx: ClassVar[Mapping[str, str]]
    """What is written as ONNX: its name in tables, and the file. The last one is a predictor's whole."""
    source: ClassVar[Mapping[str, HeadSource]]
    """Of model.py, by the head."""
    output: ClassVar[Mapping[str, Any]]
    """Of preprocessing.json."""
    card: ClassVar[str]
    """The template with what the model card says of this task alone."""

    def model(self, name: str, network: nn.Module, size: Size) -> bytes:
        """The content of an ONNX file by its name in `onnx`."""

    def witness(self, network: nn.Module, size: Size) -> bytes | None:
        """The last ONNX file, which gives the first one's outputs behind its own; None where both are one file."""

    def decided(self, raw: Outputs) -> bool:
        """Whether scores differ enough to decide what is found; those of a hardly trained network are equal."""

    def raw(self, network: nn.Module, x: Tensor) -> Outputs:
        """What the first file of `onnx` gives for an image (1, c, h, w), by PyTorch: continuous, so it compares."""

    def finished(self, raw: Outputs) -> Outputs:
        """What the last file of `onnx` gives, from what the first one does."""

    def of_file(self, outputs: Outputs, classes: int) -> Outputs | None:
        """A last file's outputs, from those of any ONNX file; None of another network's, for so many outputs."""

    def likeness(self, outputs: Outputs, expected: Outputs) -> Likeness:
        """How like a last file's outputs are to those that are expected."""

    def answer(self, outputs: Outputs, size: Size, height: int, width: int) -> Any:
        """The answer in pixels of the upright image, of which the network saw all at `size`."""

    def rows(self, answer: Any, classes: tuple[str, ...], least: float | None) -> list[dict[str, Any]]:
        """What `mnas predict` says of an image: its classes and their shares, or its boxes."""

    def drawn(self, image: Image.Image, answer: Any, classes: tuple[str, ...]) -> Image.Image:
        """An answer, or a truth, over its image."""

    def file(self, image: Image.Image, answer: Any, classes: tuple[str, ...], least: float | None) -> Image.Image:
        """What `mnas predict -o` writes for an image."""
