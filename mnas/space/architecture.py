"""One network as data: canonical, hashable, serialisable; and its layers, which everything else reads."""

from __future__ import annotations

import functools
import hashlib
from array import array
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, ClassVar

import pydantic
import yaml

from mnas.errors import BadInput
from mnas.io.size import SMALLEST, Size, SizeField, shown, sides, size_of, written
from mnas.io.strict_yaml import parse_yaml, validate
from mnas.space.dense import DenseHead, Outputs, dense_numbers, packed_numbers
from mnas.space.layer import (
    IMAGE_CHANNELS,
    Activation,
    CachedHash,
    Gate,
    Layer,
    Operator,
    Skip,
    layer_number,
    layer_of,
)

_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Block(CachedHash):
    """One layer of a stage.

    conv: a full convolution. sepconv: depthwise, then pointwise. mbconv: pointwise to `hidden`, depthwise, pointwise.
    """

    operator: Operator
    kernel: int
    stride: int
    channels: int
    """Output channels."""
    activation: Activation
    hidden: int = 0
    """Expanded channels of an mbconv; 0 for the others."""
    se: int = 0
    """Squeezed channels of squeeze-and-excitation; 0 is none."""
    skip: Skip = "none"
    output_activation: Activation = "none"
    """The activation after a sepconv's last convolution (MobileNetV1)."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT
    __hash__ = CachedHash.__hash__  # else the dataclass makes its own


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a network: an optional 1x1 convolution, pooling, an optional hidden linear layer, the classifier."""

    channels: int
    """Output channels of the 1x1 convolution; 0 is none."""
    hidden: int
    """Outputs of the hidden linear layer; 0 is none."""
    activation: Activation

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT


class _Layers:
    """The layers but for the classifier; not fields, since they follow from the fields."""

    _layers: tuple[Layer, ...]
    _numbers: bytes


@dataclass(frozen=True)
class Architecture(_Layers):
    """One network: frozen, hashable, serialisable; equal networks are equal objects.

    Construction brings the blocks into canonical form, without values that have no effect: an identity skip across a
    change of shape, an expansion by 1, squeeze-and-excitation in a full convolution, an unused gate. Raises BadInput.
    """

    resolution: Annotated[Size, SizeField()]
    """Of the images: a square's side, or (height, width) in pixels."""
    stem: Block
    stages: tuple[tuple[Block, ...], ...]
    head: Head
    gate: Gate = "hard_sigmoid"
    """The last activation of squeeze-and-excitation."""
    bn_eps: float = 1.0e-5
    channels: int = 3
    """Of the images: 3, or 1 for grey ones."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT

    def __post_init__(self) -> None:
        if isinstance(self.resolution, tuple | list):
            object.__setattr__(self, "resolution", size_of(self.resolution))
        _check(self)
        rows, numbers = _canonical_rows(self)
        object.__setattr__(self, "stem", rows[0][0])
        object.__setattr__(self, "stages", tuple(rows[1:]))
        object.__setattr__(self, "_layers", tuple(map(layer_of, numbers)))
        object.__setattr__(self, "_numbers", array("I", numbers).tobytes())
        if not any(block.se for block in self.blocks):
            object.__setattr__(self, "gate", "sigmoid")
        if not self.head.channels and not self.head.hidden:
            object.__setattr__(self, "head", Head(0, 0, "none"))

    def input_shape(self, batch: int) -> tuple[int, int, int, int]:
        """The shape of the images: (batch, channels, height, width)."""
        return batch, self.channels, *sides(self.resolution)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of all stages, in order."""
        return tuple(block for stage in self.stages for block in stage)

    def layers(self, num_classes: Outputs = 1000) -> tuple[Layer, ...]:
        """Every layer from stem to classifier, or to a head; cost, latency, building and export read these."""
        if isinstance(num_classes, DenseHead):
            return tuple(map(layer_of, dense_numbers(self, num_classes)))
        return (*self._layers, layer_of(_classifier_number(self._layers[-1].out_channels, num_classes)))

    def layer_numbers(self, num_classes: Outputs = 1000) -> bytes:
        """The numbers of `layers()` as C's unsigned int, for numpy; `layer_of` is the inverse."""
        if isinstance(num_classes, DenseHead):
            return packed_numbers(self, num_classes)
        classifier = _classifier_number(self._layers[-1].out_channels, num_classes)
        return self._numbers + array("I", (classifier,)).tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @property
    def id(self) -> str:
        """Ten hexadecimal digits that identify this network."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()[:10]

    def to_yaml(self) -> str:
        """YAML with one row for each block; `from_yaml` is the inverse."""
        head: dict[str, Any] = {"resolution": written(self.resolution), "gate": self.gate, "bn_eps": self.bn_eps}
        if self.channels != 3:
            head["channels"] = self.channels
        lines = [yaml.safe_dump(head, sort_keys=False).rstrip(), f"stem: {_yaml_row(self.stem)}", "stages:"]
        for stage in self.stages:
            lines += [f"{'- - ' if i == 0 else '  - '}{_yaml_row(block)}" for i, block in enumerate(stage)]
        return "\n".join([*lines, f"head: {_yaml_row(self.head)}", ""])

    @classmethod
    def from_yaml(cls, text: str, source: str = "architecture") -> Architecture:
        """The architecture in `text`. Raises BadInput, whose text begins with `source`."""
        return cls.from_dict(parse_yaml(text, source), source)

    @classmethod
    def from_dict(cls, data: Any, source: str = "architecture") -> Architecture:
        """The architecture in plain data, the inverse of `to_dict`. Raises BadInput that begins with `source`."""
        try:
            return validate(cls, data, source)
        except BadInput as error:
            text = str(error)
            raise BadInput(text if text.startswith(source) else f"{source}: {text}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"resolution": written(self.resolution)}


def _check(arch: Architecture) -> None:
    size = arch.resolution
    if type(size) not in (int, tuple) or min(sides(size)) < SMALLEST:
        stated = shown(size) if isinstance(size, tuple) else size
        raise BadInput(f"resolution {stated}: expected at least {SMALLEST} pixels")
    if arch.channels not in IMAGE_CHANNELS:
        raise BadInput(f"channels {arch.channels}: expected 3, or 1 for grey images")
    if min(arch.head.channels, arch.head.hidden) < 0:
        raise BadInput(f"head channels {arch.head.channels}, hidden {arch.head.hidden}: expected 0 or more")
    if not 0 < arch.bn_eps < 1:
        raise BadInput(f"bn_eps {arch.bn_eps}: expected a small number above 0, such as 0.001")
    if arch.stem.operator != "conv":
        raise BadInput(f"stem.operator {arch.stem.operator}: expected conv")
    if not arch.stages or not all(arch.stages):
        raise BadInput("stages: expected at least one, each with at least one block")


def _check_types(part: Block | Head) -> None:
    # equal parts become one object and 3.0 == 3, so a float would appear in the files of other networks
    if any(type(getattr(part, field.name)) not in (int, str) for field in fields(part)):
        raise BadInput(f"{part}: expected whole numbers (Python's int)")


def _check_block(block: Block) -> None:
    _check_types(block)
    if block.channels < 1 or block.hidden < 0 or block.se < 0:
        sizes = f"channels {block.channels}, hidden {block.hidden}, se {block.se}"
        raise BadInput(f"{sizes}: expected positive numbers")
    if block.kernel < 1 or block.kernel % 2 == 0:
        raise BadInput(f"kernel {block.kernel}: expected an odd number")
    if block.stride not in (1, 2):
        raise BadInput(f"stride {block.stride}: expected 1 or 2")
    if block.operator == "mbconv" and block.hidden < 1:
        raise BadInput("hidden 0: an mbconv needs its expanded channels")


def _canonical_block(block: Block, in_channels: int) -> Block:
    """The block without values that have no effect behind this many channels."""
    changes: dict[str, Any] = {}
    if block.operator == "conv":
        changes = {"hidden": 0, "se": 0, "output_activation": "none"}
    elif block.operator == "sepconv":
        changes = {"hidden": 0}
    elif block.hidden == in_channels:
        changes = {"operator": "sepconv", "hidden": 0, "output_activation": "none"}
    else:
        changes = {"output_activation": "none"}
    if block.skip == "identity" and (block.stride != 1 or block.channels != in_channels):
        changes["skip"] = "none"
    changed = {name: value for name, value in changes.items() if getattr(block, name) != value}
    return replace(block, **changed) if changed else block


def _canonical_rows(arch: Architecture) -> tuple[list[tuple[Block, ...]], list[int]]:
    """The stem and the stages in canonical form, and the numbers of their and the head's layers but the classifier."""
    size, channels = arch.resolution, arch.channels
    rows, numbers = [], []
    for row in ((arch.stem,), *arch.stages):
        blocks = []
        for block in row:
            canonical, number, size = _block_at(block, size, channels, arch.gate)
            channels = canonical.channels
            blocks.append(canonical)
            numbers.append(number)
        rows.append(tuple(blocks))
    return rows, [*numbers, *_head_numbers(arch.head, size, channels)]


@functools.cache
def _block_at(block: Block, size: Size, channels: int, gate: Gate) -> tuple[Block, int, Size]:
    """A block behind this feature map: its canonical form, its layer's number, and its output size."""
    _check_block(block)
    block = _canonical_block(block, channels)
    layer = Layer(
        operator=block.operator, size=size, in_channels=channels, out_channels=block.channels,
        kernel=block.kernel, stride=block.stride, hidden=block.hidden, se=block.se,
        gate=gate if block.se else "sigmoid", activation=block.activation,
        output_activation=block.output_activation, skip=block.skip,
    )  # fmt: skip
    return block, layer_number(layer), layer.out_size


@functools.cache
def _head_numbers(head: Head, size: Size, channels: int) -> list[int]:
    """The numbers of a head's layers but for the classifier."""
    _check_types(head)
    layers = []
    if head.channels:
        layers.append(Layer("conv", size, channels, head.channels, activation=head.activation))
        channels = head.channels
    layers.append(Layer("pool", size, channels, channels))
    if head.hidden:
        layers.append(Layer("linear", 1, channels, head.hidden, activation=head.activation))
    return list(map(layer_number, layers))


@functools.cache
def _classifier_number(channels: int, num_classes: int) -> int:
    return layer_number(Layer("linear", 1, channels, int(num_classes)))


def _yaml_row(part: Block | Head) -> str:
    stated = {field.name: getattr(part, field.name) for field in fields(part)
              if getattr(part, field.name) != field.default}
    return "{" + ", ".join(f"{name}: {value}" for name, value in stated.items()) + "}"
