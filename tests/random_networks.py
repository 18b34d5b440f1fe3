"""Networks whose every weight and statistic matters, and what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mnas.nn.origin import read_origin
from mnas.nn.starting import start_from
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture

SIZE = 32
M = TypeVar("M", bound=nn.Module)


def randomise(network: M, seed: int = 0) -> M:
    """Random weights, and statistics of batch normalisation that are theirs."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.5, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images(8, seed=1))
    return network.eval()


def images(count: int, seed: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def begin(supernet: Supernet, path: Path) -> Architecture:
    """Start a supernet from a file, as a run does."""
    reference = supernet.space.published(supernet.space.reference)
    return start_from(supernet, read_origin(path, reference, str(path)))


def output(network: nn.Module) -> Tensor:
    """The logits (2, classes) of two random images."""
    with torch.no_grad():
        result: Tensor = network.eval()(images(2))
    return result
