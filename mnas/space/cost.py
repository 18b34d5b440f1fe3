"""A network's costs, counted from its layers: multiply-adds, parameters, peak activation memory."""

from __future__ import annotations

from typing import NamedTuple

from mnas.io.size import pixels
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead, Outputs, tap_indices
from mnas.space.layer import HEADS, Layer
from mnas.space.operations import operations, peak_values


class Cost(NamedTuple):
    """The costs of one network at batch 1 and its own resolution."""

    madds: int
    """Multiply-adds of convolutions and linear layers; 1 MAdd = 2 FLOPs."""
    params: int
    activation_bytes: int
    """The largest float32 memory of one layer's input, output and shortcut together, and of what a head reads later."""

    @property
    def activation_mb(self) -> float:
        """`activation_bytes` in MB of 1,000,000 bytes."""
        return self.activation_bytes / 1_000_000


def cost(arch: Architecture, num_classes: Outputs = 1000) -> Cost:
    """The costs of `arch` with a classifier for `num_classes`, or as a backbone under a head."""
    layers = arch.layers(num_classes)
    held = _Held(arch, num_classes) if isinstance(num_classes, DenseHead) else None
    return Cost(
        madds=sum(layer_madds(layer) for layer in layers),
        params=sum(layer_params(layer) for layer in layers),
        activation_bytes=4 * (max(map(_peak_activations, layers)) if held is None else held.peak(layers)),
    )


def layer_madds(layer: Layer) -> int:
    """The multiply-adds of one layer's convolutions and linear layers at batch 1."""
    pixels_in, pixels_out = pixels(layer.size), pixels(layer.out_size)
    depthwise = layer.kernel**2 * pixels_out
    match layer.operator:
        case "conv":
            return layer.in_channels * layer.out_channels * layer.kernel**2 * pixels_out
        case "linear":
            return layer.in_channels * layer.out_channels
        case "sepconv":
            return layer.in_channels * (depthwise + layer.out_channels * pixels_out + 2 * layer.se)
        case "mbconv":
            return layer.hidden * (
                layer.in_channels * pixels_in + depthwise + layer.out_channels * pixels_out + 2 * layer.se
            )
        case "pool":
            return 0
        case "lraspp" | "deeplabv3" | "ssdlite":
            return sum(step.madds for step in operations(layer).steps)


def layer_params(layer: Layer) -> int:
    """The parameters of one layer."""
    squeezed = layer.se
    match layer.operator:
        case "conv":
            return layer.in_channels * layer.out_channels * layer.kernel**2 + 2 * layer.out_channels
        case "linear":
            return (layer.in_channels + 1) * layer.out_channels
        case "sepconv" | "mbconv":
            hidden = layer.hidden or layer.in_channels
            expand = hidden * layer.in_channels + 2 * hidden if layer.hidden else 0
            excite = 2 * hidden * squeezed + hidden + squeezed if squeezed else 0
            return expand + hidden * (layer.kernel**2 + 2) + excite + (hidden + 2) * layer.out_channels
        case "pool":
            return 0
        case "lraspp" | "deeplabv3" | "ssdlite":
            return sum(step.params for step in operations(layer).steps)


def _peak_activations(layer: Layer, keeps_input: bool = False, keeps_expanded: bool = False) -> int:
    """The largest number of values in memory at once: one operation's input and output, and the shortcut.

    And the layer's input or its expanded feature map, where a head reads that later.
    """
    if layer.operator in HEADS:
        return peak_values(operations(layer))
    pixels_in, pixels_out = pixels(layer.size), pixels(layer.out_size)
    inputs = layer.in_channels * pixels_in
    outputs = layer.out_channels * pixels_out
    if layer.operator not in ("sepconv", "mbconv"):
        return inputs + outputs
    hidden = layer.hidden or layer.in_channels
    wide, narrow = hidden * pixels_in, hidden * pixels_out
    shortcut = inputs if layer.skip != "none" or keeps_input else 0
    expand = inputs + wide if layer.hidden else 0
    depthwise = wide + narrow + (shortcut if layer.hidden else 0)
    return max(expand, depthwise, narrow + outputs + shortcut + (wide if keeps_expanded else 0))


class _Held:
    """The feature maps of a backbone that its head reads later: they stay in memory until then."""

    def __init__(self, arch: Architecture, head: DenseHead):
        taps = tap_indices(arch, head)
        self._maps = [index for index, tap in taps if not tap.expanded]
        self._expanded = [index for index, tap in taps if tap.expanded]

    def peak(self, layers: tuple[Layer, ...]) -> int:
        """The largest number of values in memory at once."""
        return max(self._during(number, layers) for number in range(len(layers)))

    def _during(self, number: int, layers: tuple[Layer, ...]) -> int:
        if layers[number].operator in HEADS:
            return _peak_activations(layers[number])
        maps = [layers[i].out_channels * pixels(layers[i].out_size) for i in self._maps if i < number - 1]
        maps += [layers[i].hidden * pixels(layers[i].size) for i in self._expanded if i < number]
        return sum(maps) + _peak_activations(layers[number], number - 1 in self._maps, number in self._expanded)
