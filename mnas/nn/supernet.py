"""The weight-sharing network of a search space: every subnet runs on slices of the same tensors."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnas.errors import BadInput
from mnas.nn import blocks
from mnas.nn.network import Network
from mnas.nn.slot import Slot, tensor_shapes
from mnas.space.architecture import Architecture
from mnas.space.choices import Option
from mnas.space.layer import Layer, round_channels
from mnas.space.space import SearchSpace
from mnas.space.walk import plain_name


class Supernet(nn.Module):
    """All networks of a space in one set of weights, as leading channels and kernels cropped at the centre.

    As in arXiv 1908.09791; `kernel_transforms` adds its matrices, by which smaller kernels are made from larger ones.
    The subnet is an argument of `forward`, never state. Running statistics are shared like weights, so a subnet needs
    them recalibrated (arXiv 2003.11142).
    """

    def __init__(self, space: SearchSpace, num_classes: int, kernel_transforms: bool = False):
        super().__init__()
        self.space = space
        self.num_classes = num_classes
        self.kernel_transforms = kernel_transforms
        largest = [self.layers_of(arch) for arch in extremes(space)]
        positions = [stage for stage in space.file.stages for _ in range(max(stage.depth))]
        kernels = [stage.kernel if kernel_transforms else () for stage in positions]
        layers = [*zip(*largest, strict=True)]
        others = len(layers) - 1 - len(kernels)  # of the head
        slots = iter(map(Slot, layers, [(), *kernels, *[()] * others]))
        self.stem = next(slots)
        self.stages = nn.ModuleList(
            nn.ModuleList(next(slots) for _ in range(max(stage.depth))) for stage in space.file.stages
        )
        self.head = nn.ModuleList(slots)
        blocks.init_weights(self)
        self._start_as_shortcuts()

    def forward(self, x: Tensor, arch: Architecture, dropout: float = 0.0) -> Tensor:
        """Images (b, 3, h, w) to logits (b, num_classes) of subnet `arch`.

        In training, `dropout` is applied to the classifier's input. Raises BadInput where `arch` is not in the space.
        """
        *body, (classifier, classifier_slot) = self.walk(arch)
        if x.shape[1] > arch.channels:
            x = x[:, : arch.channels]
        for layer, slot in body:
            x = slot(x, layer, arch.bn_eps)
        logits: Tensor = classifier_slot(F.dropout(x, dropout, self.training), classifier, arch.bn_eps)
        return logits

    def extract(self, arch: Architecture) -> Network:
        """A plain network with copies of the weights and statistics of `arch`; mode, device and dtype are kept."""
        with torch.device("meta"):
            network = Network(arch, self.num_classes)
        for module, (layer, slot) in zip(modules_of(network), self.walk(arch), strict=True):
            copies = {name: tensor.detach().clone() for name, tensor in slot.tensors(layer).items()}
            module.load_state_dict(copies, assign=True)
        return network.train(self.training)

    def plain(self, arch: Architecture) -> Network:
        """A classifier with copies of the weights of `arch`, for `inherit`."""
        return self.extract(arch)

    def inherit(self, network: Network, arch: Architecture) -> None:
        """Copy the weights and statistics of `network`, built from `arch`, into its slices: the inverse of `extract`.

        `Slot.fill` has the rest of a tensor that `arch` uses in part; other tensors keep their values. Raises BadInput,
        and changes nothing, where the network's shapes are not those of `arch` or `arch` is not in the space.
        """
        slots = self.walk(arch)
        states = [module.state_dict() for module in modules_of(network)[: len(slots)]]
        shapes = [{name: value.shape for name, value in state.items()} for state in states]
        if shapes != [dict(tensor_shapes(layer)) for layer, _ in slots]:
            raise BadInput(
                f"the network's weights do not have the shapes of architecture {arch.id} with {self.num_classes} "
                "classes; give the network that was built from this architecture"
            )
        for state, (layer, slot) in zip(states, slots, strict=True):
            slot.fill(layer, state)

    def _start_as_shortcuts(self) -> None:
        """Set the last scale beside each shortcut to 0, so that the layer begins as its shortcut (arXiv 1706.02677)."""
        for stage, certain in zip(self.stages.children(), _certain_shortcuts(self.space), strict=True):
            for slot, always in zip(stage.children(), certain, strict=True):
                for operator, norm in (("mbconv", "bn3"), ("sepconv", "bn2")):
                    if always and operator in slot._modules:
                        nn.init.zeros_(slot.get_parameter(f"{operator}.{norm}.weight"))

    def walk(self, arch: Architecture) -> list[tuple[Layer, Slot]]:
        """Each layer of `arch` with its slot. Raises BadInput where `arch` is not in the space."""
        if not _in_space(self.space, arch):
            raise BadInput(f"architecture {arch.id} is not in the supernet's space '{self.space.name}'")
        slots: list[Any] = [self.stem]
        for stage, row in zip(self.stages.children(), arch.stages, strict=True):
            slots += list(stage.children())[: len(row)]
        return list(zip(self.layers_of(arch), [*slots, *self.head], strict=True))

    def layers_of(self, arch: Architecture) -> tuple[Layer, ...]:
        """The layers of `arch` that have slots."""
        return arch.layers(self.num_classes)


def has_kernel_transforms(names: Iterable[str]) -> bool:
    """Whether these names of a supernet's tensors are of one with `kernel_transforms`."""
    return any(re.search(r"\dto\d+_matrix$", name) for name in names)


def modules_of(network: Network) -> list[nn.Module]:
    """The modules of the network's layers, in the order in which it runs them."""
    modules = (network.stem, *network.blocks, network.conv_head, network.pool, network.hidden, network.classifier)
    return [module for module in modules if not isinstance(module, nn.Identity)]


@functools.lru_cache(maxsize=4096)
def _in_space(space: SearchSpace, arch: Architecture) -> bool:
    return arch in space


def _certain_shortcuts(space: SearchSpace) -> Iterator[list[bool]]:
    """For each stage, whether every layer of each slot ends linearly and has a shortcut.

    A zero scale would stop the signal of a layer without a shortcut, and the gradient of a layer that ends in a ReLU.
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


def extremes(space: SearchSpace) -> Iterator[Architecture]:
    """The deepest and widest architecture of each operator and expansion; together they have every largest tensor."""
    for operator in {option for stage in space.file.stages for option in stage.operator}:
        for expansion in {option for stage in space.file.stages for option in stage.expansion}:
            yield space.suggest(_Largest(operator, expansion))


class _Largest:
    """Chooses this operator and expansion where they are options, and the largest option elsewhere."""

    def __init__(self, operator: str, expansion: float):
        self.wanted: dict[str, Option] = {"operator": operator, "expansion": expansion}

    def suggest_categorical(self, name: str, choices: list[Option]) -> Option:
        wanted = self.wanted.get(plain_name(name).rpartition(".")[2])
        if wanted in choices:
            return choices[choices.index(wanted)]
        return choices[0] if isinstance(choices[0], str) else max(choices)
