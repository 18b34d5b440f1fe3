"""One network as data, and the only walk over its layers."""

from __future__ import annotations

import functools
import hashlib
from array import array
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

import pydantic
import yaml

from mnas.errors import BadInput
from mnas.io.strict_yaml import parse_yaml, validate
from mnas.space.layer import (
    IMAGE_CHANNELS,
    Activation,
    Gate,
    Layer,
    Operator,
    Part,
    Skip,
    layer_number,
    layer_of,
)

_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)






@dataclass(frozen=True, slots=True)
class Block(Part):
    """One layer of a stage, as an architecture states it.

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
    """After a sepconv's last convolution (MobileNetV1); linear otherwise."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT
    __hash__ = Part.__hash__  # a dataclass makes its own unless it is stated here


@dataclass(frozen=True, slots=True)
class Head:
    """After the stages: an optional 1x1 convolution, pooling, an optional hidden linear layer, the classifier."""

    channels: int
    hidden: int
    activation: Activation

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT




class _Walked:
    """What the walk found, without the classifier; no fields, as it follows from them."""

    _layers: tuple[Layer, ...]
    _numbers: bytes


@dataclass(frozen=True)
class Architecture(_Walked):
    """One network: frozen, hashable, serialisable; equal networks are equal objects.

    Construction brings the blocks into canonical form: what has no effect is not stated (an identity skip across a
    change of shape, an expansion by 1, squeeze-and-excitation in a full convolution, a gate that nothing uses).
    """

    resolution: int
    stem: Block
    stages: tuple[tuple[Block, ...], ...]
    head: Head
    gate: Gate = "hard_sigmoid"
    """The last function of squeeze-and-excitation."""
    bn_eps: float = 1.0e-5

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT

    def __post_init__(self) -> None:
        _check(self)
        rows, numbers = _walk(self)
        object.__setattr__(self, "stem", rows[0][0])
        object.__setattr__(self, "stages", tuple(rows[1:]))
        object.__setattr__(self, "_layers", tuple(map(layer_of, numbers)))
        object.__setattr__(self, "_numbers", array("I", numbers).tobytes())
        if not any(block.se for block in self.blocks):
            object.__setattr__(self, "gate", "sigmoid")
        if not self.head.channels and not self.head.hidden:
            object.__setattr__(self, "head", Head(0, 0, "none"))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of all stages, in order."""
        return tuple(block for stage in self.stages for block in stage)

    def layers(self, num_classes: int = 1000) -> tuple[Layer, ...]:
        """Every layer from stem to classifier with its input size: what cost, latency, building and export read."""
        return (*self._layers, layer_of(_classifier(self._layers[-1].out_channels, num_classes)))

    def layer_numbers(self, num_classes: int = 1000) -> bytes:
        """`layers()` as an array of C's unsigned int, for numpy; `layer_of` gives each layer back."""
        classifier = _classifier(self._layers[-1].out_channels, num_classes)
        return self._numbers + array("I", (classifier,)).tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @property
    def id(self) -> str:
        """Ten hexadecimal digits that name this network."""
        return hashlib.sha256(self.to_yaml().encode()).hexdigest()[:10]

    def to_yaml(self) -> str:
        """Readable text, one row a block; `from_yaml` gives an equal architecture back."""
        head = {"resolution": self.resolution, "gate": self.gate, "bn_eps": self.bn_eps}
        lines = [yaml.safe_dump(head, sort_keys=False).rstrip(), f"stem: {_row(self.stem)}", "stages:"]
        for stage in self.stages:
            lines += [f"{'- - ' if i == 0 else '  - '}{_row(block)}" for i, block in enumerate(stage)]
        return "\n".join([*lines, f"head: {_row(self.head)}", ""])

    @classmethod
    def from_yaml(cls, text: str, source: str = "architecture") -> Architecture:
        """The architecture in `text`; BadInput names `source` and what is wrong."""
        return cls.from_dict(parse_yaml(text, source), source)

    @classmethod
    def from_dict(cls, data: Any, source: str = "architecture") -> Architecture:
        """The architecture in plain data, as `to_dict` gives it."""
        try:
            return validate(cls, data, source)
        except BadInput as error:
            text = str(error)
            raise BadInput(text if text.startswith(source) else f"{source}: {text}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)




def _check(arch: Architecture) -> None:
    if type(arch.resolution) is not int or arch.resolution < 8:
        raise BadInput(f"resolution {arch.resolution}: expected at least 8 pixels")
    if min(arch.head.channels, arch.head.hidden) < 0:
        raise BadInput(f"head channels {arch.head.channels}, hidden {arch.head.hidden}: expected 0 or more")
    if not 0 < arch.bn_eps < 1:
        raise BadInput(f"bn_eps {arch.bn_eps}: expected a small number above 0, such as 0.001")
    if arch.stem.operator != "conv":
        raise BadInput(f"stem.operator {arch.stem.operator}: expected conv")
    if not arch.stages or not all(arch.stages):
        raise BadInput("stages: expected at least one, each with at least one block")


def _check_types(part: Block | Head) -> None:
    # equal parts are kept as one object, and 3.0 == 3: it would be in everyone's files
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


def _canonical(block: Block, in_channels: int) -> Block:
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


def _walk(arch: Architecture) -> tuple[list[tuple[Block, ...]], list[int]]:
    """Stem and stages in canonical form, and the numbers of all layers but the classifier."""
    size, channels = arch.resolution, IMAGE_CHANNELS
    rows, numbers = [], []
    for row in ((arch.stem,), *arch.stages):
        blocks = []
        for stated in row:
            block, number, size = _placed(stated, size, channels, arch.gate)
            channels = block.channels
            blocks.append(block)
            numbers.append(number)
        rows.append(tuple(blocks))
    return rows, [*numbers, *_head(arch.head, size, channels)]






@functools.cache
def _placed(block: Block, size: int, channels: int, gate: Gate) -> tuple[Block, int, int]:
    """A block behind so many pixels and channels: its canonical form, its layer's number, the size of its output."""
    _check_block(block)
    block = _canonical(block, channels)
    layer = Layer(
        operator=block.operator, size=size, in_channels=channels, out_channels=block.channels,
        kernel=block.kernel, stride=block.stride, hidden=block.hidden, se=block.se,
        gate=gate if block.se else "sigmoid", activation=block.activation,
        output_activation=block.output_activation, skip=block.skip,
    )  # fmt: skip
    return block, layer_number(layer), layer.out_size


@functools.cache
def _head(head: Head, size: int, channels: int) -> list[int]:
    """The numbers of a head's layers but the classifier."""
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
def _classifier(channels: int, num_classes: int) -> int:
    return layer_number(Layer("linear", 1, channels, int(num_classes)))


def _row(part: Block | Head) -> str:
    shown = {field.name: getattr(part, field.name) for field in fields(part)
             if getattr(part, field.name) != field.default}
    return "{" + ", ".join(f"{name}: {value}" for name, value in shown.items()) + "}"
