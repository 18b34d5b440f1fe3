"""Heads for segmentation and detection: what a backbone's layers become under them. Imports no torch."""

from __future__ import annotations

import functools
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mnas.errors import BadInput, nearest
from mnas.io.size import Size, strided
from mnas.space.layer import HEADS, DenseOperator, Layer, layer_number
from mnas.space.taps import OUTPUT_STRIDES, Tap, body_of, expansion_at, first_at, last_at

if TYPE_CHECKING:
    from mnas.space.architecture import Architecture

LAST_STRIDE = 32
"""Of the last feature map, before dilation."""
LOW_STRIDES: dict[str, int] = {"lraspp": 8, "ssdlite": 16}
"""Of the larger feature map that a head reads beside the last one."""
USUAL: dict[str, tuple[int, int]] = {"lraspp": (16, 21), "deeplabv3": (16, 21), "ssdlite": (32, 91)}
"""The output stride and the classes of a head unless others are stated: those of torchvision's networks."""
AUXILIARY_STRIDE = 8
"""Of the feature map that DeepLabv3's second head reads."""
UNDER = " under "
"""Between a space's name and the head of its networks."""


@dataclass(frozen=True)
class DenseHead:
    """A head for segmentation or detection in the classifier's place: it stands where a number of classes may.

    `mnas.cost(arch, DenseHead("lraspp"))`. Raises BadInput.
    """

    name: DenseOperator
    num_classes: int = 0
    """The background included; 0 stands for 21 in segmentation, 91 in detection."""
    output_stride: int = 0
    """8 or 16 keep the last feature map larger by dilation; 0 stands for 16 in segmentation, and 32 in detection, which
    has no other."""

    def __post_init__(self) -> None:
        if self.name not in HEADS:
            raise BadInput(f"head {self.name}{nearest(str(self.name), HEADS)}")
        stride, classes = USUAL[self.name]
        object.__setattr__(self, "num_classes", int(self.num_classes or classes))
        object.__setattr__(self, "output_stride", int(self.output_stride or stride))
        if self.num_classes < 1:
            raise BadInput(f"head {self.name}: {self.num_classes} classes: expected at least 1")
        allowed = OUTPUT_STRIDES if self.name != "ssdlite" else (LAST_STRIDE,)
        if self.output_stride not in allowed:
            raise BadInput(
                f"output_stride {self.output_stride}: expected {', '.join(map(str, allowed))} under {self.name}"
            )

    def __str__(self) -> str:
        """Such as 'lraspp at output stride 16'."""
        return f"{self.name} at output stride {self.output_stride}"

    def taps(self, arch: Architecture) -> list[Tap]:
        """Where the feature maps that the head reads come from, the last one last. Raises BadInput."""
        high = last_at(arch, LAST_STRIDE)
        match self.name:
            case "lraspp":
                return [first_at(arch, LOW_STRIDES["lraspp"]), high]
            case "deeplabv3":
                return [high]
            case "ssdlite":  # arXiv 1905.02244, section 6.3
                return [expansion_at(arch, LAST_STRIDE), high]


Outputs = int | DenseHead
"""What a network gives: scores of so many classes for an image, or what a head gives."""


def dense_numbers(arch: Architecture, head: DenseHead) -> list[int]:
    """The numbers of the layers of `arch` as a backbone under `head`: the body, dilated, then the head as one layer.

    Raises BadInput for an architecture without the feature maps that the head reads.
    """
    taps, layers, numbers, stride = head.taps(arch), arch.layers(), list[int](), 1
    for layer in layers[: 1 + _index(arch, taps[-1])]:
        stride *= layer.stride
        numbers.append(_in_backbone(layer, stride, head.output_stride, arch.resolution))
    low = taps[0].channels if len(taps) > 1 else 0
    numbers.append(_head_number(head, arch.resolution, taps[-1].channels, low))
    return numbers


def packed_numbers(arch: Architecture, head: DenseHead) -> bytes:
    """`dense_numbers` as C's unsigned int."""
    return array("I", dense_numbers(arch, head)).tobytes()


def tap_indices(arch: Architecture, head: DenseHead, *, auxiliary: bool = False) -> list[tuple[int, Tap]]:
    """The head's taps with the index of each one's layer; with that of an auxiliary head before them."""
    taps = [*([first_at(arch, AUXILIARY_STRIDE)] if auxiliary else []), *head.taps(arch)]
    return [(_index(arch, tap), tap) for tap in taps]


def map_size(layer: Layer, low: bool = False) -> Size:
    """The size of the feature map that a head's layer reads: the last one, or the larger one beside it."""
    stride = LOW_STRIDES[layer.operator] if low else layer.stride
    return strided(layer.size, min(stride, layer.stride))


def head_of(layer: Layer) -> DenseHead:
    """The head that a layer is."""
    assert layer.operator in HEADS
    return DenseHead(layer.operator, layer.out_channels, layer.stride)


def classes_of(outputs: Outputs) -> int:
    """The number of classes."""
    return outputs if isinstance(outputs, int) else outputs.num_classes


def under(space: str, outputs: Outputs) -> str:
    """The name of a space whose networks have these outputs: 'v3_large under lraspp at output stride 16'."""
    return f"{space}{UNDER}{outputs}" if isinstance(outputs, DenseHead) else space


def outputs_in_words(outputs: Outputs) -> str:
    """'for 10 classes', or 'under lraspp at output stride 16'."""
    return f"for {outputs} classes" if isinstance(outputs, int) else f"under {outputs}"


def options_of(outputs: Outputs) -> str:
    """The options of a command that state them: '--head lraspp --output-stride 16 --classes 21'."""
    head = f"--head {outputs.name} --output-stride {outputs.output_stride} " if isinstance(outputs, DenseHead) else ""
    return f"{head}--classes {classes_of(outputs)}"


def _index(arch: Architecture, tap: Tap) -> int:
    return [one.name for one in body_of(arch)].index(tap.name)


@functools.cache
def _in_backbone(layer: Layer, stride: int, output_stride: int, resolution: Size) -> int:
    """The number of a layer whose output has this stride, as `mnas.nn.features.Features` keeps its map larger."""
    if stride <= output_stride:
        return layer_number(layer)
    dilation = stride // output_stride if layer.kernel > 1 else 1
    return layer_number(replace(layer, size=strided(resolution, output_stride), stride=1, dilation=dilation))


@functools.cache
def _head_number(head: DenseHead, resolution: Size, channels: int, low_channels: int) -> int:
    return layer_number(Layer(
        head.name, resolution, channels, head.num_classes, stride=head.output_stride, low_channels=low_channels,
    ))  # fmt: skip
