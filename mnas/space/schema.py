"""The schema of search_spaces/*.yaml: one row for each stage; a value is fixed, a list is a choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from mnas.errors import BadInput
from mnas.io.size import Size, SizeField, checked_sizes
from mnas.io.strict_yaml import Count, Positive, Strict
from mnas.space.layer import Activation, Gate, Operator, Skip


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


def _distinct(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value or len(set(value)) != len(value):
        raise ValueError("should list at least one option, and each once")
    return value


def _usable(sizes: tuple[Size, ...]) -> tuple[Size, ...]:
    if any(isinstance(size, tuple) for size in sizes):
        try:
            checked_sizes(sizes, "")
        except BadInput as error:
            raise ValueError(f"should be {str(error).partition(': expected ')[2]}") from None
    return sizes


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("should be odd")
    return value


_LIST = (pydantic.BeforeValidator(_listed), pydantic.AfterValidator(_distinct))
_Counts = Annotated[tuple[Count, ...], *_LIST]
_Sizes = Annotated[tuple[Annotated[Size, SizeField(1)], ...], *_LIST, pydantic.AfterValidator(_usable)]
_Factors = Annotated[tuple[Positive, ...], *_LIST]
_Kernels = Annotated[tuple[Annotated[Count, pydantic.AfterValidator(_odd)], ...], *_LIST]
_Ratios = Annotated[tuple[Annotated[float, pydantic.Field(ge=0, le=1)], ...], *_LIST]
_Operators = Annotated[tuple[Operator, ...], *_LIST]
_Activations = Annotated[tuple[Activation, ...], *_LIST]
_Skips = Annotated[tuple[Skip, ...], *_LIST]


class Stem(Strict):
    """The first convolution."""

    channels: Count
    kernel: Annotated[Count, pydantic.AfterValidator(_odd)] = 3
    stride: Literal[1, 2] = 2
    activation: Activation


class Stage(Strict):
    """One row: a value is fixed, a list is a choice. Channels are those at width 1."""

    channels: _Counts
    depth: _Counts
    stride: Literal[1, 2]
    """The first layer's stride; the others have 1."""
    operator: _Operators = ("mbconv",)
    kernel: _Kernels
    expansion: _Factors = (1.0,)
    """An mbconv's hidden channels, as a multiple of its input channels."""
    se: _Ratios = (0.0,)
    """The ratio of squeezed channels to the channels that `se_of` names; 0 is no squeeze-and-excitation."""
    activation: _Activations
    skip: _Skips = ("identity",)
    output_activation: Activation = "none"

    @pydantic.model_validator(mode="after")
    def _operators_differ(self) -> Stage:
        if {"sepconv", "mbconv"} <= set(self.operator) and 1 in self.expansion:
            raise ValueError("an mbconv of expansion 1 is a sepconv; remove one of the two")
        return self


class SpaceHead(Strict):
    """The end of a network; `scale` is how the width multiplier acts on `channels`."""

    channels: Annotated[int, pydantic.Field(ge=0)] = 0
    hidden: Annotated[int, pydantic.Field(ge=0)] = 0
    activation: Activation = "none"
    scale: Literal["width", "wider_only", "fixed"] = "width"


class SpaceFile(Strict):
    """The schema of search_spaces/*.yaml."""

    name: str
    reference: str
    """The reference network that results are compared with; the space should contain it."""
    resolution: _Sizes = (224,)
    """Input sizes: pixels of squares, or rectangles as HEIGHTxWIDTH."""
    width: _Factors = (1.0,)
    """Multipliers of the channels of all layers."""
    stem: Stem
    stages: Annotated[tuple[Stage, ...], pydantic.Field(min_length=1)]
    head: SpaceHead
    shared: tuple[Literal["operator", "kernel", "expansion", "se", "activation", "skip"], ...] = ()
    """Choices that all layers of a stage share; the others are made separately for each layer."""
    se_of: Literal["hidden", "input"] = "hidden"
    """The channels that `se` is a ratio of: hidden channels, rounded to 8 (V3), or input channels (MnasNet)."""
    gate: Gate = "hard_sigmoid"
    bn_eps: Positive = 1.0e-5
    image_channels: Literal[1, 3] = 3
    """Of the images: 3, or 1 for grey ones."""
    without: tuple[str, ...] = ()
    """Names of choices that are left out (--without): see `mnas.space.narrowing`."""

    @pydantic.model_validator(mode="after")
    def _shared_together(self) -> SpaceFile:
        operator_varies = "operator" not in self.shared and any(len(stage.operator) > 1 for stage in self.stages)
        if operator_varies and {"expansion", "se"} & set(self.shared):
            raise ValueError("shared: expansion and se exist only for some operators; share operator as well")
        return self
