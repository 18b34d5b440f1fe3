"""`Layer`: one entry of `Architecture.layers()`, with everything that its cost depends on."""

from __future__ import annotations

import functools
import itertools
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, get_args

from mnas.io.size import Size, SizeField, shown, strided, written

Operator = Literal["conv", "sepconv", "mbconv"]
Activation = Literal["none", "relu", "relu6", "hard_swish"]
Gate = Literal["sigmoid", "hard_sigmoid"]
Skip = Literal["none", "identity", "pool"]

DenseOperator = Literal["lraspp", "deeplabv3", "ssdlite"]
"""A head for segmentation or detection, which is one layer."""
HEADS: tuple[DenseOperator, ...] = get_args(DenseOperator)

IMAGE_CHANNELS = (1, 3)
"""Grey images, and colours."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is at least 90% of `channels` (MobileNet's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class CachedHash:
    """Computes its hash once. The hash is no field, since it differs between processes and must not be pickled."""

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(tuple(getattr(self, name) for name in self.__slots__)))
            return self._hash


@dataclass(frozen=True, slots=True)
class Layer(CachedHash):
    """One entry of `Architecture.layers()`: everything that its cost depends on."""

    operator: Literal["conv", "sepconv", "mbconv", "pool", "linear", "lraspp", "deeplabv3", "ssdlite"]
    size: Annotated[Size, SizeField()]
    """Of the input feature map, or under a head of the images: a square's side, or (height, width) in pixels."""
    in_channels: int
    """Of a head those of the last feature map."""
    out_channels: int
    """Of a head the number of classes."""
    kernel: int = 1
    stride: int = 1
    """Of a head the output stride: pixels of the image for one of the last feature map."""
    hidden: int = 0
    se: int = 0
    gate: Gate = "sigmoid"
    activation: Activation = "none"
    output_activation: Activation = "none"
    skip: Skip = "none"
    dilation: int = 1
    """Of the spatial convolution, which keeps the size then."""
    low_channels: int = 0
    """Of the larger feature map that a head reads beside the last one; 0 is none."""

    __hash__ = CachedHash.__hash__

    @property
    def takes_images(self) -> bool:
        """Whether it is the first layer of a network: no other has so few input channels."""
        return self.in_channels in IMAGE_CHANNELS

    @property
    def out_size(self) -> Size:
        """Of the output feature map, in pixels."""
        if self.operator in HEADS:
            return self.size
        return 1 if self.operator == "pool" else strided(self.size, self.stride)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and CSV."""
        return asdict(self) | {"size": written(self.size)}

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)
                  if getattr(self, field.name) != field.default}
        return " ".join(f"{name}={value}" for name, value in (values | {"size": shown(self.size)}).items())


def layer_of(number: int) -> Layer:
    """The layer with this number; numbers are valid in the process that made them."""
    return _layers[number]


@functools.cache
def layer_number(layer: Layer) -> int:
    """The number of this layer, which equal layers share."""
    number = next(_next_number)
    _layers[number] = layer
    return number


# kept for good: a process has as many different layers as the latency tables of its spaces
_next_number = itertools.count()
_layers: dict[int, Layer] = {}
