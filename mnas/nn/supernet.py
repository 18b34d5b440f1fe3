"""The weight-sharing network of a search space: every subnet runs on slices of the same tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnas.errors import BadInput
from mnas.nn import blocks
from mnas.nn.network import Network, module_of
from mnas.space.architecture import Architecture
from mnas.space.choices import Option
from mnas.space.layer import Layer, round_channels
from mnas.space.space import SearchSpace

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
        self._start_as_shortcuts()

    def forward(self, x: Tensor, arch: Architecture, dropout: float = 0.0) -> Tensor:
        """Images (b, 3, h, w) to logits (b, num_classes) of subnet `arch`; BadInput where it is not in the space.

        `dropout` is that of the classifier's input, in training.
        """
        *body, (layer, classifier) = self.walk(arch)
        for each, slot in body:
            x = slot(x, each, arch.bn_eps)
        logits: Tensor = classifier(F.dropout(x, dropout, self.training), layer, arch.bn_eps)
        return logits

    def extract(self, arch: Architecture) -> Network:
        """A plain network with copies of the weights and statistics of `arch`; mode, device and dtype are kept."""
        with torch.device("meta"):
            network = Network(arch, self.num_classes)
        for module, (layer, slot) in zip(_modules(network), self.walk(arch), strict=True):
            copies = {name: tensor.detach().clone() for name, tensor in slot.tensors(layer).items()}
            module.load_state_dict(copies, assign=True)
        return network.train(self.training)

    def inherit(self, network: Network, arch: Architecture) -> None:
        """The inverse of `extract`: copies the weights and statistics of `network`, of architecture `arch`, in place.

        BadInput, and no change, where the network is not of `arch` or `arch` not in the space. Slot.fill says what
        becomes of the rest of a tensor that `arch` uses in part; the other tensors stay.
        """
        states = [module.state_dict() for module in _modules(network)]
        places = self.walk(arch)
        has = [{name: value.shape for name, value in state.items()} for state in states]
        if has != [dict(_shapes(layer)) for layer, _ in places]:
            raise BadInput(
                f"the network's weights do not have the shapes of architecture {arch.id} with {self.num_classes} "
                "classes: give the network that was built from this architecture"
            )
        for state, (layer, slot) in zip(states, places, strict=True):
            slot.fill(layer, state)

    def _start_as_shortcuts(self) -> None:
        """Zeroes the last scale beside every shortcut: such layers begin as the shortcut alone (arXiv 1706.02677)."""
        for stage, certain in zip(self.stages.children(), _certain_shortcuts(self.space), strict=True):
            for slot, always in zip(stage.children(), certain, strict=True):
                for operator, norm in (("mbconv", "bn3"), ("sepconv", "bn2")):
                    if always and operator in slot._modules:
                        nn.init.zeros_(slot.get_parameter(f"{operator}.{norm}.weight"))

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
        return {name: _cut(full, shape) for name, full, shape in self._full(layer)}

    @torch.no_grad()
    def fill(self, layer: Layer, values: Mapping[str, Tensor]) -> None:
        """Copies `values`, named as in the module of `layer`, into the slices that `layer` uses.

        The rest of the same output channels becomes zero, so that with a larger kernel or more inputs they begin as
        what they are in `layer`. Other output channels stay as they are: the zeros learn from what these compute.
        """
        for name, full, shape in self._full(layer):
            if full.dim() > 1:
                full[: shape[0]].zero_()
            _view(full, shape).copy_(values[name])

    def _full(self, layer: Layer) -> Iterator[tuple[str, Tensor, torch.Size]]:
        """Each tensor of the layer's module: its name there, the tensor that it is a part of, and its own shape."""
        home = self[layer.operator if layer.operator in self else "mbconv"]
        borrowed = layer.operator not in self
        for name, shape in _shapes(layer):
            yield name, attrgetter(_in_mbconv(name) if borrowed else name)(home), shape

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


def _view(full: Tensor, shape: torch.Size) -> Tensor:
    """What `_cut` gives, as a view to write into."""
    for axis, part in enumerate(shape):
        full = full.narrow(axis, (full.shape[axis] - part) // 2 if axis > 1 else 0, part)
    return full


def _modules(network: Network) -> list[nn.Module]:
    """The modules of the network's layers, as it runs them."""
    parts = (network.stem, *network.blocks, network.conv_head, network.pool, network.hidden, network.classifier)
    return [part for part in parts if not isinstance(part, nn.Identity)]


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


def _certain_shortcuts(space: SearchSpace) -> Iterator[list[bool]]:
    """For each stage, of each of its slots: whether every layer there ends linearly and has a shortcut.

    Where one may have none, a zero scale would leave its network without a signal; before a ReLU, without a gradient.
    """
    before: tuple[int, ...] = (space.file.stem.channels,)
    for stage in space.file.stages:
        always = "none" not in stage.skip and stage.output_activation == "none"
        equal = stage.stride == 1 and all(
            round_channels(channels * width) == round_channels(out * width)
            for width in space.file.width for channels in before for out in stage.channels
        )  # fmt: skip
        first = always and (equal or "identity" not in stage.skip)
        yield [first, *[always] * (max(stage.depth) - 1)]
        before = stage.channels


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
