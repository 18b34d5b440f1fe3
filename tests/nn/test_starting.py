"""What starts from a supernet's weights outside its space."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from mnas.nn.network import Network, build
from mnas.nn.starting import origin_in, outsiders_start
from mnas.nn.supernet import Supernet
from mnas.space.cost import cost
from mnas.space.space import SearchSpace, load_space


def used(space: SearchSpace) -> Supernet:
    """A supernet whose statistics and scales are not those that it begins with."""
    torch.manual_seed(0)
    supernet = Supernet(space, 10)
    with torch.no_grad():
        for module in supernet.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
        for _ in range(3):
            supernet(torch.randn(8, 3, 32, 32), space.sample(random.Random(0)))
    return supernet.eval()


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return used(load_space("v3_small").with_resolutions((32, 48)))


def filled(supernet: Supernet, name: str) -> tuple[Network, float]:
    _, arch = supernet.space.rival(name)
    torch.manual_seed(1)
    network = build(arch, 10)
    coverage = origin_in(supernet).fill(network, arch)
    assert not coverage.changed
    return network.eval(), coverage.share


def test_a_reference_of_full_width_computes_what_the_supernet_does(supernet: Supernet) -> None:
    _, arch = supernet.space.rival("mobilenet_v3_small:48")
    network, share = filled(supernet, "mobilenet_v3_small:48")
    pixels = torch.randn(4, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), supernet(pixels, arch), atol=1e-4, rtol=1e-4)
    assert share == 1


@pytest.mark.parametrize("width", [0.35, 0.5, 0.85])
def test_a_narrower_one_has_the_most_important_channels(supernet: Supernet, width: float) -> None:
    network, share = filled(supernet, f"mobilenet_v3_small@{width}:48")
    assert share == 1, "nothing of it is fresh"
    whole = origin_in(supernet).network
    for name in ("stem.bn1.weight", "blocks.5.bn3.running_var", "hidden.linear.bias", "classifier.bias"):
        mine, theirs = network.state_dict()[name], whole.state_dict()[name]
        assert torch.equal(mine, theirs[: len(mine)])


def test_a_wider_one_begins_with_all_of_them(supernet: Supernet) -> None:
    network, share = filled(supernet, "mobilenet_v3_small@1.25:32")
    assert 0.5 < share < 1
    mine, theirs = network.state_dict(), origin_in(supernet).network.state_dict()
    assert torch.equal(mine["stem.bn1.weight"][:16], theirs["stem.bn1.weight"])
    assert torch.equal(mine["classifier.bias"], theirs["classifier.bias"])


def test_a_space_without_its_reference_gives_its_largest_network(tiny: Path) -> None:
    space = load_space(tiny)
    start = outsiders_start(space)
    assert start in space and cost(start).madds == max(cost(arch).madds for arch in space.enumerate())
    assert origin_in(used(space)).architecture == start
