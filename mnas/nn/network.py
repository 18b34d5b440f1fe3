"""An architecture as a plain `nn.Module`."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.nn import blocks
from mnas.nn.features import Features, dilate, features_of
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer


class Network(nn.Module):
    """The network of an architecture: stem, blocks, head. It holds no reference to the architecture."""

    def __init__(self, arch: Architecture, num_classes: int, dropout: float = 0.0):
        super().__init__()
        self.channels = arch.channels
        layers = arch.layers(num_classes)
        modules = [module_of(layer, arch.bn_eps) for layer in layers]
        pool = [layer.operator for layer in layers].index("pool")
        has_conv_head = bool(arch.head.channels)
        self.stem = modules[0]
        self.blocks = nn.Sequential(*modules[1 : pool - has_conv_head])
        self.conv_head = modules[pool - 1] if has_conv_head else nn.Identity()
        self.pool = modules[pool]
        self.hidden = modules[pool + 1] if arch.head.hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = modules[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Images (b, 3, h, w) to logits (b, num_classes); a network for grey images takes (b, 1, h, w) too.

        It reads the first channel of three equal ones, as grey images come from a data set.
        """
        x = self.conv_head(self.blocks(self.stem(x[:, : self.channels] if x.shape[1] > self.channels else x)))
        x = self.hidden(self.pool(x))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits

    def in_order(self) -> list[nn.Module]:
        """The layers from the stem to the classifier."""
        return [self.stem, *self.blocks, self.conv_head, self.hidden, self.classifier]


@overload
def build(
    arch: Architecture, num_classes: int = 1000, dropout: float = 0.0, *, features_only: Literal[False] = False
) -> Network: ...
@overload
def build(arch: Architecture, *, features_only: Literal[True], output_stride: int = 32) -> Features: ...
def build(
    arch: Architecture, num_classes: int = 1000, dropout: float = 0.0, *, features_only: bool = False,
    output_stride: int = 32,
) -> Network | Features:  # fmt: skip
    """A freshly initialised network of `arch`; seed torch's generator for repeatable weights.

    `features_only` gives its feature maps at strides 4, 8, 16 and 32 in place of logits, listed in `feature_info`;
    `output_stride` 16 or 8 keeps the last ones larger by dilation. `mnas.nn.features.features_of` does so with the
    weights of a trained network.
    """
    network = Network(arch, num_classes, dropout)
    blocks.init_weights(network)
    return features_of(network, arch, output_stride) if features_only else network


def module_of(layer: Layer, bn_eps: float = 1e-5) -> nn.Module:
    """The module that computes one layer; a head's is in `mnas.nn.dense`."""
    module = _undilated(layer, bn_eps)
    if layer.dilation > 1:
        dilate(module, layer.dilation)
    return module


def _undilated(layer: Layer, bn_eps: float) -> nn.Module:
    shape = (layer.in_channels, layer.out_channels, layer.kernel, layer.stride)
    match layer.operator:
        case "conv":
            return blocks.ConvBNAct(*shape, activation=layer.activation, skip=layer.skip, eps=bn_eps)
        case "sepconv":
            return blocks.SepConv(
                *shape, activation=layer.activation, se=layer.se, gate=layer.gate, skip=layer.skip,
                output_activation=layer.output_activation, eps=bn_eps,
            )
        case "mbconv":
            return blocks.MBConv(
                layer.in_channels, layer.hidden, *shape[1:], activation=layer.activation,
                se=layer.se, gate=layer.gate, skip=layer.skip, eps=bn_eps,
            )
        case "pool":
            return blocks.Pool()
        case "linear":
            if layer.activation == "none":
                return nn.Linear(layer.in_channels, layer.out_channels)
            return blocks.LinearAct(layer.in_channels, layer.out_channels, layer.activation)
        case _:
            raise BadInput(f"{layer.operator}: a head reads several feature maps, so it is no module of one")
