"""Any network of a design filled with the weights of another one: what both have is copied, the rest starts neutral."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn, no_grad

from mnas.nn.blocks import MBConv, SepConv
from mnas.nn.network import Network
from mnas.nn.slot import view_of
from mnas.space.architecture import Architecture, Block

IN_SEPCONV = {"bn2": "bn1", "conv_pwl": "conv_pw", "bn3": "bn2"}
"""The modules of an mbconv under their names in a sepconv: from the depthwise convolution on they are alike."""


@dataclass(frozen=True)
class Coverage:
    """What of a network came from another one."""

    share: float
    """Part (0..1) of its weights, the classifier's aside."""
    changed: tuple[str, ...]
    """Layers that compute otherwise than the other network's, so that their weights mean something else there."""

    def __str__(self) -> str:
        text = f"{self.share:.0%} of its weights"
        return text + f" ({', '.join(self.changed)} compute otherwise there)" * bool(self.changed)


def fits(arch: Architecture, source: Architecture) -> bool:
    """Whether networks of two architectures have the same design: as many stages, and like blocks in them."""
    return (
        len(arch.stages) == len(source.stages) and bool(arch.head.channels) == bool(source.head.channels)
        and bool(arch.head.hidden) == bool(source.head.hidden)
        and all(_alike(mine[0], other[0]) for mine, other in zip(arch.stages, source.stages, strict=True))
    )  # fmt: skip


@no_grad()
def inherit(network: Network, arch: Architecture, source: Network, source_arch: Architecture) -> Coverage:
    """Fill `network`, freshly built from `arch`, with the weights of `source`, which `fits`; the classifier is left.

    Layers correspond by stage and place. Of a tensor, the leading channels and the centre of the kernel are copied
    (arXiv 1908.09791), so `source` should have its channels sorted. What `network` has more of begins such that it
    changes nothing: wider kernels and more inputs with zeros, deeper layers as their shortcuts, an added
    squeeze-and-excitation with an even gate.
    """
    copied = total = 0
    changed = []
    for name, module, block, other, other_block in _pairs(network, arch, source, source_arch):
        state = _state(module)
        total += sum(tensor.numel() for tensor in state.values())
        if other is None or not _alike(block, other_block):
            _start_as_shortcut(module)
            continue
        values = _as_in(module, other)
        if name == "stem" and arch.channels == 1 < source_arch.channels:  # of colours, for grey images (as timm does)
            values = {**values, "conv.weight": values["conv.weight"].sum(1, keepdim=True)}
        copied += sum(_paste(tensor, values[key]) for key, tensor in state.items() if key in values)
        if block is None or other_block is None:
            continue
        if block.activation != other_block.activation or (other_block.se and not block.se):
            changed.append(name)
        if block.se and not other_block.se:
            _even_gate(module)
    return Coverage(copied / max(1, total), tuple(changed))


@no_grad()
def inherit_classifier(network: Network, source: Network) -> None:
    """Copy what the classifiers of two networks for as many classes have in common; others are left."""
    mine, other = network.classifier.state_dict(), source.classifier.state_dict()
    if len(mine["bias"]) == len(other["bias"]):
        for name, tensor in mine.items():
            _paste(tensor, other[name])


def _alike(block: Block | None, other: Block | None) -> bool:
    """Whether the weights of one block mean something in the other."""
    if block is None or other is None:
        return block is other
    return block.operator == other.operator or {block.operator, other.operator} == {"mbconv", "sepconv"}


def _pairs(
    network: Network, arch: Architecture, source: Network, source_arch: Architecture
) -> Iterator[tuple[str, nn.Module, Block | None, nn.Module | None, Block | None]]:
    """Each module with weights, the classifier aside: its name and block, and what it corresponds to."""
    yield "stem", network.stem, arch.stem, source.stem, source_arch.stem
    mine, others = iter(network.blocks), iter(source.blocks)
    for number, (row, other_row) in enumerate(zip(arch.stages, source_arch.stages, strict=True), 1):
        theirs = list(zip((next(others) for _ in other_row), other_row, strict=True))
        for place, block in enumerate(row):
            module, other_block = theirs[place] if place < len(theirs) else (None, None)
            yield f"stage {number} layer {place + 1}", next(mine), block, module, other_block
    for name in ("conv_head", "hidden"):
        module = getattr(network, name)
        if not isinstance(module, nn.Identity):
            yield name, module, None, getattr(source, name), None


def _as_in(module: nn.Module, other: nn.Module) -> Mapping[str, Tensor]:
    """The tensors of `other` under the names that they have in `module`."""
    values = _state(other)
    if isinstance(module, SepConv) and isinstance(other, MBConv):
        kept = {name: value for name, value in values.items() if name.partition(".")[0] not in ("conv_pw", "bn1")}
        return {_renamed(name, IN_SEPCONV): value for name, value in kept.items()}
    if isinstance(module, MBConv) and isinstance(other, SepConv):
        return {_renamed(name, {new: old for old, new in IN_SEPCONV.items()}): value for name, value in values.items()}
    return values


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    top, dot, rest = name.partition(".")
    return names.get(top, top) + dot + rest


def _paste(own: Tensor, value: Tensor) -> int:
    """Copy what two tensors of the same layer have in common; returns the number of elements that `own` got.

    The rest of the rows that are copied becomes zero.
    """
    rows = min(len(own), len(value))
    if own.dim() > 1 and own.shape[1:] != value.shape[1:]:
        own[:rows].zero_()
    common = [min(lengths) for lengths in zip(own.shape, value.shape, strict=True)]
    mine = view_of(own, common)
    mine.copy_(view_of(value, common))
    return mine.numel()


def _start_as_shortcut(module: nn.Module) -> None:
    """Set the scale beside a shortcut to zero, so that the layer begins as the shortcut (arXiv 1706.02677)."""
    if isinstance(module, MBConv | SepConv) and isinstance(module.shortcut, nn.Identity):
        nn.init.zeros_(module.bn3.weight if isinstance(module, MBConv) else module.bn2.weight)


def _even_gate(module: nn.Module) -> None:
    """Let an added squeeze-and-excitation begin with the gate 1/2, which the projection makes up for."""
    assert isinstance(module, MBConv | SepConv)
    expand = module.se.get_parameter("conv_expand.weight")
    nn.init.zeros_(expand)
    nn.init.zeros_(module.se.get_parameter("conv_expand.bias"))
    projection = module.conv_pwl if isinstance(module, MBConv) else module.conv_pw
    projection.weight.mul_(2)
