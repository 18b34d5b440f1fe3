"""Networks filled from a trained one: equal where they agree, neutral where they have more, counted where not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from random_networks import SIZE, output, randomise

from mnas.nn.importance import sort_channels
from mnas.nn.inheritance import Coverage, fits, inherit
from mnas.nn.network import Network, build
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block
from mnas.space.space import load_space

LARGE = zoo.get("mobilenet_v3_large", resolution=SIZE)
CLASSES = 7


def trained(arch: Architecture = LARGE) -> Network:
    network = randomise(build(arch, CLASSES))
    sort_channels(network)
    return network


def filled(arch: Architecture, source: Network, source_arch: Architecture = LARGE) -> tuple[Network, Coverage]:
    """A network of `arch` with the weights of another, and with its classifier, so that outputs can be compared."""
    torch.manual_seed(3)
    network = build(arch, CLASSES)
    coverage = inherit(network, arch, source, source_arch)
    network.classifier.load_state_dict(source.classifier.state_dict())
    return network.eval(), coverage


def changed(arch: Architecture, stage: int, place: int, **changes: object) -> Architecture:
    rows = [list(row) for row in arch.stages]
    rows[stage][place] = replace(rows[stage][place], **changes)  # type: ignore[arg-type]
    return replace(arch, stages=tuple(map(tuple, rows)))


@pytest.mark.parametrize("name", zoo.names())
def test_the_same_network_computes_the_same(name: str) -> None:
    arch = zoo.get(name, resolution=SIZE)
    source = trained(arch)
    network, coverage = filled(arch, source, arch)
    assert torch.equal(output(network), output(source))
    assert coverage == Coverage(1.0, ())


def test_the_classifier_is_left() -> None:
    torch.manual_seed(0)
    network = build(LARGE, 3)
    before = network.classifier.weight.detach().clone()  # type: ignore[union-attr]
    inherit(network, LARGE, trained(), LARGE)
    assert torch.equal(network.classifier.weight, before)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [
    {"kernel": 5}, {"kernel": 7}, {"hidden": 480}, {"hidden": 480, "kernel": 7}, {"se": 32}, {"se": 32, "hidden": 480},
], ids=str)  # fmt: skip
def test_what_is_added_changes_nothing_at_first(changes: dict[str, int]) -> None:
    source = trained()
    arch = changed(LARGE, 3, 1, **changes)
    network, coverage = filled(arch, source)
    assert arch != LARGE
    assert (output(network) - output(source)).abs().max() < 1e-4
    assert coverage.changed == () and 0.8 < coverage.share < 1


def test_a_deeper_stage_begins_as_the_shallower_one() -> None:
    source = trained()
    rows = [list(row) for row in LARGE.stages]
    rows[2].append(rows[2][-1])
    network, coverage = filled(replace(LARGE, stages=tuple(map(tuple, rows))), source)
    assert (output(network) - output(source)).abs().max() < 1e-5
    assert 0.9 < coverage.share < 1


def test_added_weights_get_gradients() -> None:
    arch = changed(LARGE, 1, 1, hidden=144, kernel=7, se=32)
    network, _ = filled(arch, trained())
    network.train()(torch.randn(4, 3, SIZE, SIZE)).square().sum().backward()
    block = network.blocks[2]
    assert bool((block.conv_pwl.weight.grad[:, 100:] != 0).any())
    assert bool((block.conv_dw.weight.grad[:, :, 0] != 0).any())
    assert bool((block.se.conv_expand.weight.grad != 0).any())


def test_narrower_layers_get_the_first_channels() -> None:
    source = trained()
    arch = changed(LARGE, 3, 1, hidden=96, kernel=3)
    network, coverage = filled(arch, source)
    mine, theirs = network.blocks[7], source.blocks[7]
    assert torch.equal(mine.conv_pwl.weight, theirs.conv_pwl.weight[:, :96])
    assert torch.equal(mine.bn2.running_mean, theirs.bn2.running_mean[:96])
    assert coverage.share == 1


def test_a_smaller_kernel_is_the_centre_of_the_larger() -> None:
    source = trained()
    network, _ = filled(changed(LARGE, 2, 1, kernel=3), source)
    assert torch.equal(network.blocks[4].conv_dw.weight, source.blocks[4].conv_dw.weight[:, :, 1:4, 1:4])


def test_layers_that_compute_otherwise_are_counted() -> None:
    arch = changed(changed(LARGE, 3, 1, activation="relu"), 2, 0, se=0)
    _, coverage = filled(arch, trained())
    assert coverage.changed == ("stage 3 layer 1", "stage 4 layer 2")


@pytest.mark.parametrize("width", [0.5, 0.75, 1.25])
def test_other_widths_get_all_that_there_is(width: float) -> None:
    network, coverage = filled(zoo.get("mobilenet_v3_large", width, SIZE), trained())
    assert coverage.share == 1 if width < 1 else 0.5 < coverage.share < 0.8
    assert bool(torch.isfinite(output(network)).all())


def test_every_network_of_a_space_can_be_filled() -> None:
    space, source = load_space("v3_large").with_resolutions((SIZE,)), trained()
    rng = random.Random(0)
    for arch in (space.sample(rng) for _ in range(20)):
        assert fits(arch, LARGE)
        torch.manual_seed(0)
        network = build(arch, CLASSES)
        coverage = inherit(network, arch, source, LARGE)
        assert 0.3 < coverage.share <= 1
        assert bool(torch.isfinite(output(network)).all())


def test_the_operators_of_one_design_share_their_weights() -> None:
    arch = zoo.get("mobilenet_v2", resolution=SIZE)  # its first block does not expand: a sepconv
    wide = changed(arch, 0, 0, operator="mbconv", hidden=64, skip="none")
    assert isinstance(wide.stages[0][0], Block) and wide.stages[0][0].operator == "mbconv"
    source = trained(arch)
    network, coverage = filled(wide, source, arch)
    assert torch.equal(network.blocks[0].conv_dw.weight[:32], source.blocks[0].conv_dw.weight)
    assert 0.9 < coverage.share < 1


def test_other_designs_do_not_fit() -> None:
    for other in ("mobilenet_v3_small", "mobilenet_v2", "mobilenet_v1", "mnasnet_a1"):
        assert not fits(LARGE, zoo.get(other, resolution=SIZE))
