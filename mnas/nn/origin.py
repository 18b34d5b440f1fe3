"""Trained networks from whose weights others start: published ones, files, winners of earlier searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn, no_grad, tensor

from mnas.data.augment import MEAN, STD
from mnas.errors import BadInput
from mnas.nn.importance import sort_channels
from mnas.nn.inheritance import Coverage, fits, inherit, inherit_classifier
from mnas.nn.network import Network, build
from mnas.nn.ofa import is_ofa, load_ofa
from mnas.nn.pretrained import architecture_beside, bn_eps_of, classes_of, load_reference
from mnas.nn.supernet import Supernet
from mnas.nn.weights import read_weights
from mnas.space.architecture import Architecture

NORMALISATIONS = {
    "imagenet": (MEAN, STD), "unit": ((0.0,) * 3, (1.0,) * 3), "inception": ((0.5,) * 3, (0.5,) * 3),
}  # fmt: skip
"""Mean and standard deviation, of pixels in 0..1, with which published weights were trained."""


@dataclass(frozen=True)
class Origin:
    """A trained network that others start from."""

    name: str
    architecture: Architecture
    network: Network
    """In eval mode, its channels sorted by importance."""
    supernet: Supernet | None = None
    """The published supernet of which `network` is the largest one."""

    def fits(self, arch: Architecture) -> bool:
        """Whether a network of `arch` can start from it."""
        return fits(arch, self.architecture)

    def fill(self, network: Network, arch: Architecture) -> Coverage:
        """Fill a freshly built network of `arch` with the weights: see `inherit`.

        The classifier gets them too where both are for as many classes.
        """
        source, source_arch = self.network, self.architecture
        if self.supernet is not None:
            source_arch = _with_kernels_of(self.architecture, arch)
            source = self.supernet.extract(source_arch)
        coverage = inherit(network, arch, source, source_arch)
        inherit_classifier(network, source)
        return coverage


def read_origin(path: str | Path, reference: Architecture, name: str, normalisation: str = "imagenet") -> Origin:
    """The origin in a file: a winner/ folder or its weights, or a state dict of the network `reference`.

    Raises BadInput where the file cannot be read or is of another network.
    """
    weights, beside = read_weights(path), architecture_beside(path)
    try:
        with torch.random.fork_rng(devices=[]):
            if is_ofa(weights):
                return _of_supernet(name, load_ofa(weights))
            eps = bn_eps_of(weights) if isinstance(weights, Mapping) else None
            arch = reference if eps is None else replace(reference, bn_eps=eps)
            arch = arch if beside is None else replace(beside[1], channels=reference.channels)
            network = build(arch, classes_of(weights))
            load_reference(network, weights)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    _take_other_pixels(network.stem, NORMALISATIONS[normalisation])
    sort_channels(network)
    return Origin(name, arch, network.eval().requires_grad_(False))


def _of_supernet(name: str, supernet: Supernet) -> Origin:
    space = supernet.space
    largest = space.decode({choice: max(options) for choice, options in space.choices().items()})
    network = supernet.eval().requires_grad_(False).extract(largest)
    return Origin(name, largest, network, supernet)


def best_origin(origins: Sequence[Origin], arch: Architecture) -> Origin | None:
    """The one from which a network of `arch` starts, the first that fits; None where none does."""
    return next((origin for origin in origins if origin.fits(arch)), None)


def _with_kernels_of(largest: Architecture, arch: Architecture) -> Architecture:
    """`largest` with the smaller kernels of `arch`, which a supernet makes otherwise than by cropping."""
    stages = []
    for row, wanted in zip(largest.stages, arch.stages, strict=True):
        kernels = [block.kernel for block in wanted] + [0] * len(row)
        stages.append(tuple(
            replace(block, kernel=kernel) if 0 < kernel < block.kernel else block
            for block, kernel in zip(row, kernels, strict=False)
        ))  # fmt: skip
    return replace(largest, stages=tuple(stages))


@no_grad()
def _take_other_pixels(stem: nn.Module, normalisation: tuple[Sequence[float], Sequence[float]]) -> None:
    """Let a stem that was trained with pixels normalised otherwise take mnas's: (p - MEAN) / STD.

    The convolution takes up the scale and batch normalisation the shift, exactly but for the border's zeros.
    """
    mean, std = (tensor(values).view(1, 3, 1, 1) for values in normalisation)
    weight, running_mean = stem.get_parameter("conv.weight"), stem.get_buffer("bn1.running_mean")
    if weight.shape[1] != 3:
        return
    shift = (tensor(MEAN).view(1, 3, 1, 1) - mean) / std
    running_mean.sub_((weight * shift).sum((1, 2, 3)))
    weight.mul_(tensor(STD).view(1, 3, 1, 1) / std)
