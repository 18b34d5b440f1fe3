"""The channels of a trained network in the order of their importance, so that a narrower one gets the best of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn, no_grad, zeros

from mnas.nn.blocks import ConvBNAct, LinearAct, MBConv, PoolSkip, SepConv, SqueezeExcite
from mnas.nn.network import Network


@no_grad()
def sort_channels(network: Network) -> None:
    """Reorder the channels inside `network`, the most important first; it computes the same as before.

    A channel's importance is the scale with which it is written times the sum of the absolute weights that read it
    (as arXiv 1908.09791 orders the channels of its blocks). Channels that are added by a shortcut are one set.
    """
    sets: list[_Channels] = []

    def new() -> _Channels:
        sets.append(_Channels())
        return sets[-1]

    stream = new()
    _written(stream, network.stem)
    for block in (*network.blocks, network.conv_head):
        if isinstance(block, nn.Identity):
            continue
        _read(stream, block, new)
        same = isinstance(block.shortcut, nn.Identity)
        pooled = isinstance(block.shortcut, PoolSkip)
        stream.fixed |= pooled
        stream = stream if same else new()
        stream.fixed |= pooled
        _written(stream, block)
    for linear in (network.hidden, network.classifier):
        if isinstance(linear, LinearAct):
            stream.reads(linear.linear.weight)
            stream = new()
            stream.add(linear.linear.weight, 0)
            stream.add(linear.linear.bias, 0)
            stream.scales.append(linear.linear.weight.norm(dim=1))
        elif isinstance(linear, nn.Linear):
            stream.reads(linear.weight)
    for channels in sets:
        channels.sort()


class _Channels:
    """Channels that keep one order in all the tensors that hold them."""

    def __init__(self) -> None:
        self.places: list[tuple[Tensor, int]] = []
        """Each tensor with the axis of its channels."""
        self.scales: list[Tensor] = []
        """How strongly the channels are written, (n,) each."""
        self.weights: list[Tensor] = []
        """How strongly they are read, (n,) each; the mean is 1."""
        self.fixed = False
        """Whether something relies on their order."""

    def add(self, tensor: Tensor, axis: int) -> None:
        self.places.append((tensor, axis))

    def add_norm(self, norm: nn.BatchNorm2d) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            self.add(tensor, 0)

    def reads(self, weight: Tensor) -> None:
        """`weight` (out, n, ...) reads the channels."""
        self.add(weight, 1)
        total = weight.abs().transpose(0, 1).flatten(1).sum(1)
        self.weights.append(total / total.mean().clamp(min=1e-12))

    def sort(self) -> None:
        if self.fixed or not self.weights:
            return
        none = zeros(len(self.weights[0]))
        order = (sum(self.scales, none) * sum(self.weights, none)).argsort(descending=True, stable=True)
        for tensor, axis in self.places:
            tensor.copy_(tensor.index_select(axis, order))


def _written(channels: _Channels, block: nn.Module) -> None:
    """The block's output channels."""
    match block:
        case MBConv():
            conv, norm = block.conv_pwl, block.bn3
        case SepConv():
            conv, norm = block.conv_pw, block.bn2
        case ConvBNAct():
            conv, norm = block.conv, block.bn1
        case _:
            raise AssertionError(type(block))
    channels.add(conv.weight, 0)
    channels.add_norm(norm)
    channels.scales.append(norm.weight.abs())


def _read(channels: _Channels, block: nn.Module, new: Callable[[], _Channels]) -> None:
    """The block's input channels, and those inside it."""
    match block:
        case MBConv():
            channels.reads(block.conv_pw.weight)
            hidden = new()
            hidden.add(block.conv_pw.weight, 0)
            hidden.add_norm(block.bn1)
            hidden.scales.append(block.bn2.weight.abs())
            _filtered(hidden, block.conv_dw, block.bn2, block.se, new)
            hidden.reads(block.conv_pwl.weight)
        case SepConv():
            _filtered(channels, block.conv_dw, block.bn1, block.se, new)
            channels.reads(block.conv_pw.weight)
        case ConvBNAct():
            channels.reads(block.conv.weight)


def _filtered(
    channels: _Channels, conv: nn.Conv2d, norm: nn.BatchNorm2d, se: nn.Module, new: Callable[[], _Channels]
) -> None:
    """A depthwise convolution keeps the channels; squeeze-and-excitation has a set of its own inside."""
    channels.add(conv.weight, 0)
    channels.add_norm(norm)
    if not isinstance(se, SqueezeExcite):
        return
    channels.add(se.conv_reduce.weight, 1)
    channels.add(se.conv_expand.weight, 0)
    assert se.conv_expand.bias is not None and se.conv_reduce.bias is not None
    channels.add(se.conv_expand.bias, 0)
    squeezed = new()
    squeezed.add(se.conv_reduce.weight, 0)
    squeezed.add(se.conv_reduce.bias, 0)
    squeezed.scales.append(se.conv_reduce.weight.flatten(1).norm(dim=1))
    squeezed.reads(se.conv_expand.weight)
