"""The operations inside a head, on named values: its multiply-adds, parameters and memory follow from them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from mnas.errors import BadInput
from mnas.io.size import Size, pixels, strided
from mnas.space.dense import map_size
from mnas.space.layer import Layer

LRASPP_WIDTH = 128
"""Channels of the branch of the coarse feature map."""
DEEPLAB_WIDTH, DEEPLAB_RATES = 256, (12, 24, 36)
"""Channels of DeepLabv3's pyramid, and its dilations at output stride 16."""
SSD_EXTRA, SSD_ANCHORS = (512, 256, 256, 128), 6
"""Channels of SSDLite's extra feature maps, each half as large as the one before; default boxes at each place."""


class Operation(NamedTuple):
    """One step of a head."""

    reads: tuple[str, ...]
    gives: str
    """One of `reads` where the step works in place."""
    values: int
    """Of what it gives."""
    madds: int = 0
    params: int = 0


class _Value(NamedTuple):
    name: str
    channels: int
    size: Size

    @property
    def values(self) -> int:
        return self.channels * pixels(self.size)


class Operations:
    """The steps of a head, in order; batch normalisation and activations belong to the convolution before them."""

    def __init__(self, layer: Layer):
        self.steps: list[Operation] = []
        self.high = _Value("high", layer.in_channels, map_size(layer))
        self.low = _Value("low", layer.low_channels, map_size(layer, low=True)) if layer.low_channels else None

    @property
    def inputs(self) -> dict[str, int]:
        """The feature maps that the head reads, and how many values each has."""
        return {value.name: value.values for value in (self.low, self.high) if value is not None}

    def conv(
        self, x: _Value, channels: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False, extra: int = 2
    ) -> _Value:
        """A convolution; `extra` parameters for each output channel: 2 of batch normalisation, 1 of a bias, or none."""
        weights = channels * kernel**2 * (1 if depthwise else x.channels)
        size = strided(x.size, stride)
        return self._step([x], channels, size, weights * pixels(size), weights + extra * channels)

    def pooled(self, x: _Value) -> _Value:
        return self._step([x], x.channels, 1)

    def resized(self, x: _Value, size: Size) -> _Value:
        return self._step([x], x.channels, size)

    def joined(self, values: Sequence[_Value]) -> _Value:
        """Channels side by side."""
        return self._step(values, sum(value.channels for value in values), values[0].size)

    def in_place(self, x: _Value, other: _Value) -> _Value:
        """`x` changed by `other`: a product, or a sum."""
        self.steps.append(Operation((x.name, other.name), x.name, x.values))
        return x

    def by_box(self, values: Sequence[_Value]) -> None:
        """Each value copied with the channels last, then all in one row."""
        copies = [self._step([value], value.channels, value.size) for value in values]
        self.steps.append(Operation(tuple(one.name for one in copies), self._name(), sum(one.values for one in copies)))

    def _step(self, reads: Sequence[_Value], channels: int, size: Size, madds: int = 0, params: int = 0) -> _Value:
        out = _Value(self._name(), channels, size)
        self.steps.append(Operation(tuple(one.name for one in reads), out.name, out.values, madds, params))
        return out

    def _name(self) -> str:
        return f"x{len(self.steps)}"


@functools.cache
def operations(layer: Layer) -> Operations:
    """The steps of a head's layer, in the order of `mnas.nn.heads`."""
    steps = Operations(layer)
    match layer.operator:
        case "lraspp":
            _lraspp(steps, layer)
        case "deeplabv3":
            _deeplabv3(steps, layer)
        case "ssdlite":
            _ssdlite(steps, layer)
        case _:
            raise BadInput(f"{layer.operator}: expected a head")
    return steps


def peak_values(steps: Operations) -> int:
    """The largest number of values in memory during a step: what it reads and gives, and what is still needed later."""
    counts, peak, end = steps.inputs, 0, len(steps.steps)
    last = {name: number for number, step in enumerate(steps.steps) for name in step.reads}
    for number, step in enumerate(steps.steps):
        counts[step.gives] = step.values
        peak = max(peak, sum(counts.values()))
        counts = {name: count for name, count in counts.items() if last.get(name, end) > number}  # an output stays
    return peak


def _lraspp(steps: Operations, layer: Layer) -> None:
    assert steps.low is not None
    wide = steps.conv(steps.high, LRASPP_WIDTH)
    gate = steps.conv(steps.pooled(steps.high), LRASPP_WIDTH, extra=0)
    large = steps.resized(steps.in_place(wide, gate), steps.low.size)
    scores = steps.conv(large, layer.out_channels, extra=1)
    scores = steps.in_place(scores, steps.conv(steps.low, layer.out_channels, extra=1))
    steps.resized(scores, layer.size)


def _deeplabv3(steps: Operations, layer: Layer) -> None:
    x, width = steps.high, DEEPLAB_WIDTH
    branches = [steps.conv(x, width), *(steps.conv(x, width, 3) for _ in DEEPLAB_RATES)]
    branches.append(steps.resized(steps.conv(steps.pooled(x), width), x.size))
    projected = steps.conv(steps.joined(branches), width)
    steps.resized(steps.conv(steps.conv(projected, width, 3), layer.out_channels, extra=1), layer.size)


def _ssdlite(steps: Operations, layer: Layer) -> None:
    assert steps.low is not None
    maps = [steps.low, steps.high]
    for channels in SSD_EXTRA:
        half = channels // 2
        narrow = steps.conv(steps.conv(maps[-1], half), half, 3, 2, depthwise=True)
        maps.append(steps.conv(narrow, channels))
    for outputs in (SSD_ANCHORS * layer.out_channels, SSD_ANCHORS * 4):
        filtered = (steps.conv(one, one.channels, 3, depthwise=True) for one in maps)
        steps.by_box([steps.conv(one, outputs, extra=1) for one in filtered])
