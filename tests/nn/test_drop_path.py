"""Stochastic depth drops what it should, as often as it should, and only in training."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mnas
from mnas.export.pytorch import model_source
from mnas.nn.drop_path import set_drop_path
from mnas.nn.network import Network

ARCH = mnas.zoo.get("mobilenet_v3_small", width=0.5, resolution=32)


def network(name: str = "mobilenet_v3_small") -> Network:
    torch.manual_seed(0)
    return mnas.build(mnas.zoo.get(name, width=0.5, resolution=32), 10)


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def residual(net: nn.Module) -> list[int]:
    return [i for i, block in enumerate(net.blocks.children()) if block.shortcut is not None]


def dropped(net: nn.Module, index: int, draws: int) -> float:
    """The fraction of images for which a block gives back its input."""
    block = net.blocks.train()[index]
    channels = block(net_input(net, index)).shape[1]
    x = torch.randn(draws, channels, 4, 4, generator=torch.Generator().manual_seed(2))
    return float((block(x) == x).flatten(1).all(1).float().mean())


def net_input(net: nn.Module, index: int) -> torch.Tensor:
    x = net.stem(images())
    for block in list(net.blocks.children())[:index]:
        x = block(x)
    return x


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v2", "mnasnet_a1"])
def test_the_rate_rises_with_the_depth(name: str) -> None:
    net = network(name)
    set_drop_path(net, 0.5)
    blocks = list(net.blocks.children())
    torch.manual_seed(0)
    for i in residual(net):
        assert dropped(net, i, 2000) == pytest.approx(0.5 * i / len(blocks), abs=0.04)
    assert len(residual(net)) > 3


def test_a_kept_branch_is_scaled_so_that_the_mean_stays() -> None:
    net = network().train()
    index = residual(net)[-1]
    block = net.blocks[index]
    x = torch.randn(2000, block.conv_pw.in_channels, 4, 4, generator=torch.Generator().manual_seed(2))
    branch = block(x) - x
    set_drop_path(net, 0.6)
    torch.manual_seed(0)
    noisy = block(x) - x
    kept = noisy.flatten(1).any(1)
    rate = 0.6 * index / len(net.blocks)
    torch.testing.assert_close(noisy[kept], branch[kept] / (1 - rate), atol=1e-4, rtol=1e-3)


def test_evaluation_and_state_are_untouched() -> None:
    net = network().eval()
    before, state = net(images()), net.state_dict()
    text = model_source(ARCH, [str(i) for i in range(10)], title="A network")
    set_drop_path(net, 0.9)
    assert net(images()).equal(before)
    assert list(net.state_dict()) == list(state)
    assert [type(module) for module in net.modules()] == [type(module) for module in network().modules()]
    assert model_source(ARCH, [str(i) for i in range(10)], title="A network") == text


def test_statistics_are_collected_from_every_block() -> None:
    """As recalibration does: training mode without gradients."""
    plain, dropping = network().train(), network().train()
    set_drop_path(dropping, 0.9)
    with torch.no_grad():
        plain(images(16)), dropping(images(16))
    assert all(a.equal(b) for a, b in zip(plain.buffers(), dropping.buffers(), strict=True))


def test_rates_are_replaced_and_end() -> None:
    net = network()
    index = residual(net)[-1]
    expected = index / len(net.blocks)
    for rate in (0.9, 0.5, 0.0, 0.5):
        set_drop_path(net, rate)
        torch.manual_seed(0)
        assert dropped(net, index, 2000) == pytest.approx(rate * expected, abs=0.04)
    plain, ended = network().train(), network().train()
    set_drop_path(ended, 0.5)
    set_drop_path(ended, 0.0)
    assert ended(images()).equal(plain(images()))


def test_copies() -> None:
    net = network().eval()
    before = net(images())
    set_drop_path(net, 0.8)
    averaged = AveragedModel(net).eval()
    copied, pickled = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    for other in (averaged, copied, pickled):
        assert other(images()).equal(before)
    set_drop_path(copied, 0.0)
    torch.manual_seed(0)
    assert dropped(net, residual(net)[-1], 500) > 0.5, "the copy has settings of its own"
    assert dropped(copied, residual(net)[-1], 500) == 0
    set_drop_path(averaged.module, 0.0)
    averaged.update_parameters(net)


def test_gradients_reach_every_weight() -> None:
    net = network().train()
    set_drop_path(net, 0.2)
    torch.manual_seed(0)
    net(images(32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
