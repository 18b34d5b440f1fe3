"""The weight-sharing network of a search space: every subnet runs on slices of the same tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnas.architecture import Architecture, Layer
from mnas.errors import BadInput
from mnas.nn import blocks
from mnas.nn.network import Network, module_of
from mnas.space import Option, SearchSpace

BN_MOMENTUM = 0.1


class Supernet(nn.Module):
    """All networks of a space in one set of weights: leading channels, kernels cropped at the centre.

    arXiv 1908.09791, without its learned kernel transforms. Which subnet runs is an argument of `forward`, never state.
    Running statistics are shared like weights, so those of a subnet are wrong until they are recalibrated (arXiv
    2003.11142).
    """

    def __init__(self, space: SearchSpace, num_classes: int):
        super().__init__()
        self.space = space
        self.num_classes = num_classes
        extremes = [arch.layers(num_classes) for arch in _extremes(space)]
        slots = iter([Slot(layers) for layers in zip(*extremes, strict=True)])
        self.stem = next(slots)
        self.stages = nn.ModuleList(
            nn.ModuleList(next(slots) for _ in range(max(stage.depth))) for stage in space.file.stages
        )
        self.head = nn.ModuleList(slots)
        blocks.init_weights(self)

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        """Images (b, 3, h, w) to logits (b, num_classes) of subnet `arch`; BadInput where it is not in the space."""
        for layer, slot in self.walk(arch):
            x = slot(x, layer, arch.bn_eps)
        return x

    def extract(self, arch: Architecture) -> Network:
        """A plain network with copies of the weights and statistics of `arch`; mode, device and dtype are kept."""
        with torch.device("meta"):
            network = Network(arch, self.num_classes)
        parts = (network.stem, *network.blocks, network.conv_head, network.pool, network.hidden, network.classifier)
        modules = [part for part in parts if not isinstance(part, nn.Identity)]
        for module, (layer, slot) in zip(modules, self.walk(arch), strict=True):
            copies = {name: tensor.detach().clone() for name, tensor in slot.tensors(layer).items()}
            module.load_state_dict(copies, assign=True)
        return network.train(self.training)

    def walk(self, arch: Architecture) -> list[tuple[Layer, Slot]]:
        """Each layer of `arch` with the slot that it runs in; BadInput where `arch` is not in the space."""
        if not _in_space(self.space, arch):
            raise BadInput(f"architecture {arch.id} is not in the supernet's space '{self.space.name}'")
        slots: list[Any] = [self.stem]
        for stage, row in zip(self.stages.children(), arch.stages, strict=True):
            slots += list(stage.children())[: len(row)]
        return list(zip(arch.layers(self.num_classes), [*slots, *self.head], strict=True))


class Slot(nn.ModuleDict):
    """The largest tensors of one layer position, by operator; a sepconv uses the mbconv's where there is one."""

    def __init__(self, layers: Sequence[Layer]):
        super().__init__()
        operators = {layer.operator for layer in layers}
        for operator in sorted(operators):
            if operator == "sepconv" and "mbconv" in operators:
                continue
            kinds = ("mbconv", "sepconv") if operator == "mbconv" else (operator,)
            same = [layer for layer in layers if layer.operator in kinds]
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

    def tensors(self, layer: Layer) -> dict[str, Tensor]:
        """The slices that `layer` uses, named as in its module (mnas.nn.blocks); 1-d ones are views."""
        home = self[layer.operator if layer.operator in self else "mbconv"]
        borrowed = layer.operator not in self
        return {
            name: _cut(attrgetter(_in_mbconv(name) if borrowed else name)(home), shape)
            for name, shape in _shapes(layer)
        }

    def forward(self, x: Tensor, layer: Layer, eps: float) -> Tensor:
        """What `layer`'s module would compute from x (b, in_channels, size, size) with these tensors."""
        return _RUN[layer.operator](_Part(self.tensors(layer), self.training, eps), x, layer)


class _Part:
    """Named tensors of one layer, and the functions that use them."""

    def __init__(self, tensors: dict[str, Tensor], training: bool, eps: float):
        self.tensors, self.training, self.eps = tensors, training, eps

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        return F.conv2d(x, weight, self.tensors.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)

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


def _conv(part: _Part, x: Tensor, layer: Layer) -> Tensor:
    out = _act(layer.activation)(part.bn("bn1", part.conv("conv", x, layer.stride)))
    return _with_shortcut(out, x, layer)


def _sepconv(part: _Part, x: Tensor, layer: Layer) -> Tensor:
    out = _act(layer.activation)(part.bn("bn1", part.conv("conv_dw", x, layer.stride, layer.in_channels)))
    out = part.bn("bn2", part.conv("conv_pw", part.se(out, layer)))
    return _with_shortcut(_act(layer.output_activation)(out), x, layer)


def _mbconv(part: _Part, x: Tensor, layer: Layer) -> Tensor:
    out = _act(layer.activation)(part.bn("bn1", part.conv("conv_pw", x)))
    out = _act(layer.activation)(part.bn("bn2", part.conv("conv_dw", out, layer.stride, layer.hidden)))
    out = part.bn("bn3", part.conv("conv_pwl", part.se(out, layer)))
    return _with_shortcut(out, x, layer)


def _linear(part: _Part, x: Tensor, layer: Layer) -> Tensor:
    weight, bias = part.tensors.values()
    out: Tensor = _act(layer.activation)(F.linear(x, weight, bias))
    return out


def _pool(part: _Part, x: Tensor, layer: Layer) -> Tensor:
    return x.mean((2, 3))


_RUN: dict[str, Callable[[_Part, Tensor, Layer], Tensor]] = {
    "conv": _conv, "sepconv": _sepconv, "mbconv": _mbconv, "linear": _linear, "pool": _pool,
}  # fmt: skip

# both have no parameters and no state, so one of each serves all
_act = functools.cache(blocks.act)
_shortcut = functools.lru_cache(maxsize=4096)(blocks.shortcut)


def _with_shortcut(out: Tensor, x: Tensor, layer: Layer) -> Tensor:
    shortcut = _shortcut(layer.skip, layer.in_channels, layer.out_channels, layer.stride)
    return out if shortcut is None else out + shortcut(x)


def _cut(full: Tensor, shape: torch.Size) -> Tensor:
    """The leading channels and centred kernel of `full` that have this shape."""
    if full.shape == shape:
        return full
    if full.dim() == 1:
        return full[: shape[0]]
    # a negative pad cuts; unlike slicing, its backward writes the full gradient once, not once a dimension
    pads: list[int] = []
    for axis in reversed(range(full.dim())):
        extra = full.shape[axis] - shape[axis]
        pads += [-(extra // 2), -(extra // 2)] if axis > 1 else [0, -extra]
    return F.pad(full, pads)


@functools.lru_cache(maxsize=65536)
def _shapes(layer: Layer) -> tuple[tuple[str, torch.Size], ...]:
    """Name and shape of each tensor of the layer's module."""
    with torch.device("meta"):
        module = module_of(layer)
    return tuple((name, tensor.shape) for name, tensor in module.state_dict().items())


def _in_mbconv(name: str) -> str:
    """Where an mbconv keeps the tensor `name` of a sepconv: the layers from the depthwise on are the same."""
    part, dot, rest = name.partition(".")
    return {"bn1": "bn2", "conv_pw": "conv_pwl", "bn2": "bn3"}.get(part, part) + dot + rest


@functools.lru_cache(maxsize=4096)
def _in_space(space: SearchSpace, arch: Architecture) -> bool:
    return arch in space


def _extremes(space: SearchSpace) -> Iterator[Architecture]:
    """The deepest and widest architecture of each operator and expansion: together they have every largest tensor."""
    for operator in {option for stage in space.file.stages for option in stage.operator}:
        for expansion in {option for stage in space.file.stages for option in stage.expansion}:
            yield space.suggest(_Largest(operator, expansion))


class _Largest:
    """Answers a choice as asked where it can, and by the largest option elsewhere."""

    def __init__(self, operator: str, expansion: float):
        self.wanted: dict[str, Option] = {"operator": operator, "expansion": expansion}

    def suggest_categorical(self, name: str, choices: list[Option]) -> Option:
        wanted = self.wanted.get(name.partition("[")[0].rpartition(".")[2])
        if wanted in choices:
            return choices[choices.index(wanted)]
        return choices[0] if isinstance(choices[0], str) else max(choices)
