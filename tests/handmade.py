"""Small architectures that together have every part, and networks of them with usual weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mnas.nn.network import Network, build
from mnas.space.architecture import Architecture, Block, Head

STEM = Block("conv", 3, 2, 8, "relu")
HEAD = Head(0, 0, "none")


def tiny(*row: Block, head: Head = HEAD, **changes: Any) -> Architecture:
    """The stem and one stage of these blocks."""
    return Architecture(32, STEM, (row,), head, **changes)


HAND_MADE = {
    "inverted_residuals": Architecture(
        32, Block("conv", 3, 2, 8, "hard_swish"),
        (
            (Block("mbconv", 3, 2, 8, "relu", hidden=8, se=4),),
            (
                Block("mbconv", 5, 2, 16, "hard_swish", hidden=24, se=8),
                Block("mbconv", 5, 1, 16, "hard_swish", hidden=32, se=8, skip="identity"),
            ),
        ),
        Head(48, 32, "hard_swish"), "hard_sigmoid",
    ),
    "pool_skips": Architecture(
        40, Block("conv", 3, 2, 16, "relu"),
        (
            (
                Block("mbconv", 5, 2, 24, "relu6", hidden=32, se=8, skip="pool"),
                Block("sepconv", 3, 2, 16, "relu", skip="pool"),
            ),
            (
                Block("conv", 3, 2, 32, "hard_swish", skip="pool"),
                Block("mbconv", 3, 1, 32, "relu", hidden=64, skip="identity"),
            ),
        ),
        Head(0, 24, "hard_swish"), "sigmoid",
    ),
    "convolutions": Architecture(
        33, Block("conv", 5, 1, 8, "hard_swish"),
        ((Block("conv", 3, 1, 8, "relu", skip="identity"), Block("conv", 5, 2, 12, "none")),),
        Head(0, 0, "none"), bn_eps=0.002,
    ),
    "linear_hidden": Architecture(
        32, Block("conv", 3, 2, 8, "relu"),
        ((Block("sepconv", 3, 1, 8, "relu6", se=4, skip="identity", output_activation="hard_swish"),),),
        Head(16, 12, "none"),
    ),
}  # fmt: skip


def usual_network(arch: Architecture, num_classes: int) -> Network:
    """A network in training mode with batch statistics of random images and logits of ordinary size."""
    torch.manual_seed(0)
    network = build(arch, num_classes, dropout=0.2).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.momentum = 0.9
    assert isinstance(network.classifier, nn.Linear)
    nn.init.normal_(network.classifier.weight, std=0.1)
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(arch.input_shape(8)))
    return network
