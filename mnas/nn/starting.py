"""A supernet's first weights, those of a trained network or of a published supernet; and what starts from its own."""

from __future__ import annotations

import logging
from dataclasses import replace

from mnas.errors import BadInput
from mnas.nn.importance import sort_channels
from mnas.nn.inheritance import inherit, inherit_classifier
from mnas.nn.origin import Origin
from mnas.nn.supernet import Supernet, has_kernel_transforms
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace

log = logging.getLogger("mnas")


def start_from(supernet: Supernet, origin: Origin) -> Architecture:
    """Fill one subnet of `supernet` with the weights of a trained network, and return its architecture.

    It is the same network where the space has it, or else the largest one, as far as the origin goes. A supernet of
    once-for-all fills all subnets of its space where `supernet` has kernel transforms. `Supernet.inherit` has the rest.
    Raises BadInput where the origin does not fit the space, and then changes nothing.
    """
    if origin.supernet is not None:
        return _start_from_ofa(supernet, origin.supernet, origin.name)
    space = supernet.space
    arch = _in_space(space, origin.architecture)
    if not origin.fits(arch):
        raise BadInput(f"{origin.name}: its network has another design than those of space '{space.name}'")
    network = supernet.plain(arch)
    origin.fill(network, arch)
    supernet.inherit(network, arch)
    return arch


def outsiders_start(space: SearchSpace) -> Architecture:
    """The network of a space with whose weights those outside it start: its reference, or else the largest one."""
    return _in_space(space, space.rival(space.reference)[1])


def origin_in(supernet: Supernet) -> Origin:
    """The network of `outsiders_start` with the weights of `supernet`."""
    arch = outsiders_start(supernet.space)
    network = supernet.plain(arch).cpu()
    sort_channels(network)
    return Origin("the supernet", arch, network.eval().requires_grad_(False))


def _as_in(space: SearchSpace, arch: Architecture) -> Architecture:
    """The architecture for the images of a space, with its eps: weights depend on neither."""
    return replace(
        arch, resolution=space.resolutions[0], channels=space.channels, bn_eps=space.file.bn_eps
    )


def _in_space(space: SearchSpace, arch: Architecture) -> Architecture:
    """The same network in a space, or else the space's largest one."""
    arch = _as_in(space, arch)
    return arch if arch in space else space.decode({name: max(options) for name, options in space.choices().items()})


def _start_from_ofa(supernet: Supernet, ofa: Supernet, name: str) -> Architecture:
    """Fill the largest network of `ofa`, as deep as the supernet's space has it, and the kernel transforms."""
    space = supernet.space
    largest = ofa.space.decode({name: max(options) for name, options in ofa.space.choices().items()})
    depths = [max(stage.depth) for stage in space.file.stages]
    if len(depths) == len(largest.stages):
        rows = tuple(row[:depth] for row, depth in zip(largest.stages, depths, strict=True))
        largest = replace(largest, stages=rows)
    arch = _as_in(space, largest)
    if arch not in space:
        raise BadInput(
            f"{name}: these weights do not fit space '{space.name}', which does not contain the largest network of "
            f"{ofa.space.name}; they fit --space {ofa.space.name}"
        )
    network, theirs = supernet.plain(arch), ofa.extract(largest)
    inherit(network, arch, theirs, largest)
    inherit_classifier(network, theirs)
    supernet.inherit(network, arch)
    fresh = [] if ofa.num_classes == supernet.num_classes else ["classifier"]
    numbers = [(stage, layer) for stage, row in enumerate(arch.stages, 1) for layer in range(1, len(row) + 1)]
    pairs = zip(numbers, supernet.walk(arch)[1:], ofa.walk(largest)[1:], strict=False)
    for (stage, number), (layer, slot), (_, other) in pairs:
        slot.copy_transforms(other)
        if not layer.se and slot.has_se(layer):
            fresh.append(f"stage{stage}.layer{number}.se")
    filled = sum(weight.numel() for key, weight in network.named_parameters() if key.partition(".")[0] not in fresh)
    matrices = sum(weight.numel() for key, weight in supernet.named_parameters() if has_kernel_transforms([key]))
    total = sum(weight.numel() for weight in supernet.parameters())
    log.info(
        "%s: fills %.1f%% of the supernet's weights%s", ofa.space.name, 100 * (filled + matrices) / total,
        f"; it has none for {', '.join(fresh)}" if fresh else "",
    )  # fmt: skip
    return arch
