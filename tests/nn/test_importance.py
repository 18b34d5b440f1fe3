"""Sorting channels: the function stays, and the leading ones are the most important."""

from __future__ import annotations

import copy

import pytest
import torch
from random_networks import SIZE, output, randomise

from mnas.nn.blocks import MBConv
from mnas.nn.importance import sort_channels
from mnas.nn.network import build
from mnas.space import zoo
from mnas.space.space import load_space


@pytest.mark.parametrize("name", [*zoo.names(), "mobilenet_v3_large@0.75"])
def test_a_sorted_network_computes_the_same(name: str) -> None:
    network = randomise(build(zoo.load_architecture(name, SIZE), 7))
    before, expected = copy.deepcopy(network.state_dict()), output(network)
    sort_channels(network)
    assert (output(network) - expected).abs().max() < 1e-4 * expected.abs().max()
    moved = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert {"stem.conv.weight", "classifier.weight"} <= set(moved)


def test_pooled_shortcuts_keep_the_order_on_which_they_rely() -> None:
    space = load_space("mnasnet").with_resolutions((SIZE,))
    pooled = space.argmax(lambda arch: sum(block.skip == "pool" for block in arch.blocks))
    network = randomise(build(pooled, 7))
    expected = output(network)
    sort_channels(network)
    assert (output(network) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_first_channels_are_read_most() -> None:
    network = randomise(build(zoo.get("mobilenet_v3_large", resolution=SIZE), 7))
    sort_channels(network)
    for block in network.blocks:
        if isinstance(block, MBConv):
            read = block.conv_pwl.weight.abs().sum((0, 2, 3)) * block.bn2.weight.abs()
            assert bool((read.diff() <= 1e-6).all())


def test_half_of_the_channels_keeps_more_than_half_of_the_function() -> None:
    torch.manual_seed(0)
    network = randomise(build(zoo.get("mobilenet_v3_small", resolution=SIZE), 7))
    for block in network.blocks:  # half of the channels matter little, at random places
        if isinstance(block, MBConv):
            weak = torch.randperm(block.conv_pwl.weight.shape[1])[::2]
            with torch.no_grad():
                block.conv_pwl.weight[:, weak] *= 0.01
    expected = output(network)

    def error(sorted_first: bool) -> float:
        cut = copy.deepcopy(network)
        if sorted_first:
            sort_channels(cut)
        for block in cut.blocks:
            if isinstance(block, MBConv):
                with torch.no_grad():
                    block.conv_pwl.weight[:, block.conv_pwl.weight.shape[1] // 2 :] = 0
        return float((output(cut) - expected).abs().max())

    assert error(sorted_first=True) < 0.2 * error(sorted_first=False)
