"""The building blocks of MobileNets. They import only torch, since exported model files contain their source text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hard_swish": nn.Hardswish,
    "sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid,
}  # fmt: skip


def act(name: str) -> nn.Module:
    """The activation called `name`."""
    return nn.Identity() if name == "none" else ACTIVATIONS[name]()


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size (at stride 1)."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that a small network computes from the channel means (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int, gate: str):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = act(gate)

    def forward(self, x: Tensor) -> Tensor:
        scale = x.mean((2, 3), keepdim=True)  # (b, c, 1, 1)
        scale = self.conv_expand(self.act(self.conv_reduce(scale)))
        return x * self.gate(scale)


class PoolSkip(nn.Module):
    """A shortcut across a change of shape: average pooling, then channels cropped or padded with zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        self.missing = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        # a negative pad crops
        return nn.functional.pad(self.pool(x), (0, 0, 0, 0, 0, self.missing))


class ConvBNAct(nn.Module):
    """Convolution, batch normalisation, activation, and an optional shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1,
        activation: str = "relu", skip: str = "none", eps: float = 1e-5,
    ):  # fmt: skip
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel, stride)
        self.bn1 = nn.BatchNorm2d(out_channels, eps)
        self.act1 = act(activation)
        self.shortcut = shortcut(skip, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv(x)))
        return out if self.shortcut is None else out + self.shortcut(x)


class SepConv(nn.Module):
    """Depthwise, then pointwise convolution (arXiv 1704.04861); linear output unless it has an `output_activation`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, activation: str = "relu",
        se: int = 0, gate: str = "sigmoid", skip: str = "none", output_activation: str = "none", eps: float = 1e-5,
    ):  # fmt: skip
        super().__init__()
        self.conv_dw = conv(in_channels, in_channels, kernel, stride, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels, eps)
        self.act1 = act(activation)
        self.se = SqueezeExcite(in_channels, se, gate) if se else nn.Identity()
        self.conv_pw = conv(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, eps)
        self.act2 = act(output_activation)
        self.shortcut = shortcut(skip, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.se(self.act1(self.bn1(self.conv_dw(x))))
        out = self.act2(self.bn2(self.conv_pw(out)))
        return out if self.shortcut is None else out + self.shortcut(x)


class MBConv(nn.Module):
    """Inverted residual: expand pointwise, filter depthwise, project linearly (arXiv 1801.04381)."""

    def __init__(
        self, in_channels: int, hidden: int, out_channels: int, kernel: int, stride: int = 1, activation: str = "relu",
        se: int = 0, gate: str = "sigmoid", skip: str = "none", eps: float = 1e-5,
    ):  # fmt: skip
        super().__init__()
        self.conv_pw = conv(in_channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden, eps)
        self.act1 = act(activation)
        self.conv_dw = conv(hidden, hidden, kernel, stride, groups=hidden)
        self.bn2 = nn.BatchNorm2d(hidden, eps)
        self.act2 = act(activation)
        self.se = SqueezeExcite(hidden, se, gate) if se else nn.Identity()
        self.conv_pwl = conv(hidden, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels, eps)
        self.shortcut = shortcut(skip, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv_pw(x)))
        out = self.se(self.act2(self.bn2(self.conv_dw(out))))
        out = self.bn3(self.conv_pwl(out))
        return out if self.shortcut is None else out + self.shortcut(x)


def shortcut(skip: str, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The module on the shortcut, or None where there is no shortcut."""
    if skip == "pool":
        return PoolSkip(in_channels, out_channels, stride)
    return nn.Identity() if skip == "identity" else None


class Pool(nn.Module):
    """(b, c, h, w) to channel means (b, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class LinearAct(nn.Module):
    """A linear layer and an activation."""

    def __init__(self, in_features: int, out_features: int, activation: str):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.act = act(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(x))


def init_weights(network: nn.Module) -> None:
    """He initialisation for convolutions, small normal weights for linear layers (arXiv 1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


__all__ = [
    "ConvBNAct", "LinearAct", "MBConv", "Pool", "PoolSkip", "SepConv", "SqueezeExcite",
    "act", "conv", "init_weights", "shortcut", "torch",
]  # fmt: skip
