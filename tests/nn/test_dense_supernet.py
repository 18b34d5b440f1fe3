"""One shared head over a supernet: each subnet's slices are its extracted network."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from mnas.nn.dense import dense_network
from mnas.nn.dense_supernet import DenseSupernet
from mnas.nn.network import build
from mnas.space.dense import DenseHead
from mnas.space.space import SearchSpace, load_space

HEADS = [("lraspp", 16), ("lraspp", 8), ("deeplabv3", 16), ("ssdlite", 32)]
SPACES = ("v3_small", "v2")


def supernet_of(space: SearchSpace, name: str, stride: int) -> DenseSupernet:
    torch.manual_seed(0)
    made = DenseSupernet(space, DenseHead(name, 5, stride), auxiliary=name == "deeplabv3")  # type: ignore[arg-type]
    shuffled(made)
    return made.eval()


def shuffled(module: nn.Module) -> None:
    """Statistics and scales as training leaves them: unlike one another."""
    generator = torch.Generator().manual_seed(1)
    for tensor in [*module.buffers(), *module.parameters()]:
        if tensor.dim() == 1:
            with torch.no_grad():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


def assert_same(outputs: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> None:
    for one, other in zip(outputs, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("name", "stride"), HEADS)
def test_an_extracted_network_computes_what_its_subnet_does(name: str, stride: int, space: str) -> None:
    loaded = load_space(space).with_resolutions((64,))
    supernet, rng = supernet_of(loaded, name, stride), random.Random(0)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    for arch in [loaded.sample(rng) for _ in range(3)]:
        network = supernet.extract(arch)
        with torch.no_grad():
            assert_same(network.for_loss(x), supernet(x, arch))  # type: ignore[operator]
        assert not any(tensor.is_meta for tensor in network.state_dict().values())
        fresh = dense_network(arch, supernet.dense_head, auxiliary=supernet.auxiliary)
        shapes = {key: value.shape for key, value in fresh.state_dict().items()}
        assert {key: value.shape for key, value in network.state_dict().items()} == shapes


@pytest.mark.parametrize(("name", "stride"), HEADS)
def test_the_head_is_shared_and_trained(name: str, stride: int) -> None:
    """In training each subnet has gradients in the head, and moves its shared statistics."""
    space = load_space("v3_small").with_resolutions((64,))
    supernet = supernet_of(space, name, stride).train()
    before = {key: value.clone() for key, value in supernet.heads.named_buffers()}
    arch = space.sample(random.Random(1))
    outputs = supernet(torch.rand(2, 3, 64, 64), arch)
    torch.stack([one.square().mean() for one in outputs if one.requires_grad]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in supernet.heads.parameters() if p.dim() > 1)
    moved = [key for key, value in supernet.heads.named_buffers() if not torch.equal(value, before[key])]
    assert {key.rpartition(".")[2] for key in moved} == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_trained_classifier_goes_into_the_backbone() -> None:
    space = load_space("v3_small").with_resolutions((64,))
    supernet, arch = supernet_of(space, "lraspp", 16), space.sample(random.Random(2))
    trained = build(arch, 1)
    shuffled(trained)
    supernet.inherit(trained, arch)
    network = supernet.extract(arch)
    body = dense_network(arch, supernet.dense_head, network=trained).backbone.state_dict()
    assert body.keys() == network.backbone.state_dict().keys()  # type: ignore[union-attr]
    assert all(torch.equal(value, body[key]) for key, value in network.backbone.state_dict().items())  # type: ignore[union-attr]
    assert torch.equal(supernet.plain(arch).stem.conv.weight, trained.stem.conv.weight)  # type: ignore[union-attr]
