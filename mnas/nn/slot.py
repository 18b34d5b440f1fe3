"""One layer position of a supernet: its largest tensors, and each layer that runs on slices of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnas.nn import blocks
from mnas.nn.network import module_of
from mnas.space.layer import Layer

BN_MOMENTUM = 0.1


class Slot(nn.ModuleDict):
    """The largest tensors of one layer position by operator; a sepconv uses those of the mbconv where there is one.

    Of `kernels`, each smaller depthwise kernel is the centre of the next larger one, flattened, times a matrix, which
    begins as the identity (arXiv 1908.09791); without them it is the centre itself.
    """

    def __init__(self, layers: Sequence[Layer], kernels: Sequence[int] = ()):
        super().__init__()
        self.steps = tuple(itertools.pairwise(sorted(kernels, reverse=True)))
        operators = {layer.operator for layer in layers}
        for operator in sorted(operators):
            if operator == "sepconv" and "mbconv" in operators:
                continue
            users = ("mbconv", "sepconv") if operator == "mbconv" else (operator,)
            same = [layer for layer in layers if layer.operator in users]
            hidden = max(layer.hidden or layer.in_channels for layer in same)
            self[operator] = module_of(replace(
                next(layer for layer in same if layer.operator == operator),
                in_channels=max(layer.in_channels for layer in same),
                out_channels=max(layer.out_channels for layer in same),
                kernel=max(layer.kernel for layer in same),
                hidden=hidden if operator == "mbconv" else 0,
                se=max(layer.se for layer in same),
                skip="none",
            ))  # fmt: skip
            for larger, smaller in self.steps if operator in ("sepconv", "mbconv") else ():
                matrix = nn.Parameter(torch.eye(smaller**2))
                self.get_submodule(f"{operator}.conv_dw").register_parameter(f"{larger}to{smaller}_matrix", matrix)

    def tensors(self, layer: Layer) -> dict[str, Tensor]:
        """The slices that `layer` uses, named as in its module (mnas.nn.blocks); those of one dimension are views."""
        tensors = {name: slice_of(full, shape) for name, full, shape in self._full(layer)}
        if matrices := self._matrices(layer):
            kernel = self._depthwise(layer).get_parameter("weight")[: tensors["conv_dw.weight"].shape[0]]
            for smaller, matrix in matrices:
                centre = slice_of(kernel, torch.Size((len(kernel), 1, smaller, smaller)))
                kernel = F.linear(centre.flatten(1), matrix).view_as(centre)
            tensors["conv_dw.weight"] = kernel
        return tensors

    @torch.no_grad()
    def fill(self, layer: Layer, values: Mapping[str, Tensor]) -> None:
        """Copy `values`, named as in the module of `layer`, into the slices that `layer` uses.

        The rest of the same output channels becomes zero, so that a larger kernel or more inputs compute the same at
        first. Other output channels keep their weights, from which the zeros get gradients. The matrices that make the
        layer's kernel become the identity.
        """
        for name, full, shape in self._full(layer):
            if full.dim() > 1:
                full[: shape[0]].zero_()
            view_of(full, shape).copy_(values[name])
        for smaller, matrix in self._matrices(layer):
            matrix.copy_(torch.eye(smaller**2))

    @torch.no_grad()
    def copy_transforms(self, other: Slot) -> None:
        """Copy the matrices of an equal layer position, where both make the same kernels by them."""
        if self.steps == other.steps:
            own, theirs = dict(self.named_parameters()), dict(other.named_parameters())
            for name in own.keys() & theirs.keys():
                if name.endswith("_matrix"):
                    own[name].copy_(theirs[name])

    def has_se(self, layer: Layer) -> bool:
        """Whether some layer of the same operator here has squeeze-and-excitation."""
        module = self[layer.operator if layer.operator in self else "mbconv"]
        return isinstance(getattr(module, "se", None), blocks.SqueezeExcite)

    def _matrices(self, layer: Layer) -> list[tuple[int, Tensor]]:
        """The kernel sizes through which the layer's kernel is made, and their matrices."""
        steps = [step for step in self.steps if step[1] >= layer.kernel and layer.operator in ("sepconv", "mbconv")]
        return [(small, self._depthwise(layer).get_parameter(f"{large}to{small}_matrix")) for large, small in steps]

    def _depthwise(self, layer: Layer) -> nn.Module:
        return self.get_submodule(f"{layer.operator if layer.operator in self else 'mbconv'}.conv_dw")

    def _full(self, layer: Layer) -> Iterator[tuple[str, Tensor, torch.Size]]:
        """Each tensor of the layer's module: its name there, the full tensor, and the shape of its slice."""
        shared = layer.operator not in self
        module = self["mbconv" if shared else layer.operator]
        for name, shape in tensor_shapes(layer):
            yield name, attrgetter(_in_mbconv(name) if shared else name)(module), shape

    def forward(self, x: Tensor, layer: Layer, eps: float) -> Tensor:
        """Compute `layer` of x (b, in_channels, h, w) with the slices that it uses."""
        return _RUN[layer.operator](_Weights(self.tensors(layer), self.training, eps), x, layer)

    def with_expansion(self, x: Tensor, layer: Layer, eps: float) -> tuple[Tensor, Tensor]:
        """What the expansion of an mbconv gives, and what the layer gives."""
        weights = _Weights(self.tensors(layer), self.training, eps)
        expanded = _expanded(weights, x, layer)
        return expanded, _projected(weights, expanded, x, layer)


class _Weights:
    """The tensors of one layer by name, and the operations that use them."""

    def __init__(self, tensors: dict[str, Tensor], training: bool, eps: float):
        self.tensors, self.training, self.eps = tensors, training, eps

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1, dilation: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, self.tensors.get(f"{name}.bias"), stride, padding, dilation, groups)

    def bn(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.tensors[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, self.training, BN_MOMENTUM, self.eps)

    def se(self, x: Tensor, layer: Layer) -> Tensor:
        if not layer.se:
            return x
        scale = F.relu(self.conv("se.conv_reduce", x.mean((2, 3), keepdim=True)))  # (b, se, 1, 1)
        gate: Tensor = _act(layer.gate)(self.conv("se.conv_expand", scale))
        return x * gate


def _conv(weights: _Weights, x: Tensor, layer: Layer) -> Tensor:
    out = _act(layer.activation)(weights.bn("bn1", weights.conv("conv", x, layer.stride, 1, layer.dilation)))
    return _with_shortcut(out, x, layer)


def _sepconv(weights: _Weights, x: Tensor, layer: Layer) -> Tensor:
    out = weights.conv("conv_dw", x, layer.stride, layer.in_channels, layer.dilation)
    out = _act(layer.activation)(weights.bn("bn1", out))
    out = weights.bn("bn2", weights.conv("conv_pw", weights.se(out, layer)))
    return _with_shortcut(_act(layer.output_activation)(out), x, layer)


def _mbconv(weights: _Weights, x: Tensor, layer: Layer) -> Tensor:
    return _projected(weights, _expanded(weights, x, layer), x, layer)


def _expanded(weights: _Weights, x: Tensor, layer: Layer) -> Tensor:
    return _act(layer.activation)(weights.bn("bn1", weights.conv("conv_pw", x)))


def _projected(weights: _Weights, expanded: Tensor, x: Tensor, layer: Layer) -> Tensor:
    out = weights.conv("conv_dw", expanded, layer.stride, layer.hidden, layer.dilation)
    out = _act(layer.activation)(weights.bn("bn2", out))
    out = weights.bn("bn3", weights.conv("conv_pwl", weights.se(out, layer)))
    return _with_shortcut(out, x, layer)


def _linear(weights: _Weights, x: Tensor, layer: Layer) -> Tensor:
    weight, bias = weights.tensors.values()
    out: Tensor = _act(layer.activation)(F.linear(x, weight, bias))
    return out


def _pool(weights: _Weights, x: Tensor, layer: Layer) -> Tensor:
    return x.mean((2, 3))


_RUN: dict[str, Callable[[_Weights, Tensor, Layer], Tensor]] = {
    "conv": _conv, "sepconv": _sepconv, "mbconv": _mbconv, "linear": _linear, "pool": _pool,
}  # fmt: skip

# neither has parameters or state, so equal ones can be one object
_act = functools.cache(blocks.act)
_shortcut = functools.lru_cache(maxsize=4096)(blocks.shortcut)


def _with_shortcut(out: Tensor, x: Tensor, layer: Layer) -> Tensor:
    shortcut = _shortcut(layer.skip, layer.in_channels, layer.out_channels, layer.stride)
    return out if shortcut is None else out + shortcut(x)


def slice_of(full: Tensor, shape: torch.Size) -> Tensor:
    """The slice of this shape: leading channels, kernel cropped at the centre."""
    if full.shape == shape:
        return full
    if full.dim() == 1:
        return full[: shape[0]]
    # a negative pad crops; unlike slicing, its backward writes the full gradient once, not once for each dimension
    pads: list[int] = []
    for axis in reversed(range(full.dim())):
        extra = full.shape[axis] - shape[axis]
        pads += [-(extra // 2), -(extra // 2)] if axis > 1 else [0, -extra]
    return F.pad(full, pads)


def view_of(full: Tensor, shape: Sequence[int]) -> Tensor:
    """The leading channels and the kernel's centre of this shape, as a view to write into."""
    for axis, length in enumerate(shape):
        full = full.narrow(axis, (full.shape[axis] - length) // 2 if axis > 1 else 0, length)
    return full


@functools.lru_cache(maxsize=65536)
def tensor_shapes(layer: Layer) -> tuple[tuple[str, torch.Size], ...]:
    """The name and shape of each tensor of the layer's module."""
    with torch.device("meta"):
        module = module_of(layer)
    return tuple((name, tensor.shape) for name, tensor in module.state_dict().items())


def _in_mbconv(name: str) -> str:
    """The name in an mbconv of the tensor `name` of a sepconv: from the depthwise convolution on they are alike."""
    top, dot, rest = name.partition(".")
    return {"bn1": "bn2", "conv_pw": "conv_pwl", "bn2": "bn3"}.get(top, top) + dot + rest
