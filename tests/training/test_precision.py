"""Training in bfloat16 on a CPU: gradients near those in float32, and a network that learns as much."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from trainers import trainer

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.training.depthwise_bf16 import DepthwiseBF16
from mnas.training.precision import LEAST_PIXELS, Precision, has_bfloat16, training_pass

CPU = torch.device("cpu")


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (2, 3), (5, 4), (16, 16)])
def test_depthwise_gradients_are_those_in_float32(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)

    def rounded(*shape: int) -> torch.Tensor:
        return torch.randn(shape).bfloat16().float().requires_grad_()

    x, weight = rounded(4, 8, *size), rounded(8, 1, kernel, kernel)
    expected = F.conv2d(x, weight, None, stride, kernel // 2, groups=8)
    above = torch.randn_like(expected).bfloat16().float()
    gradients = torch.autograd.grad(expected, (x, weight), above)
    found = DepthwiseBF16.apply(x, weight, stride)  # type: ignore[no-untyped-call]
    low = torch.autograd.grad(found, (x, weight), above.bfloat16())
    for one, other in zip((expected, *gradients), (found, *low), strict=True):
        assert float((one - other.float()).abs().max().detach()) < 0.02 * float(one.abs().max().detach())


def test_small_images_stay_in_float32() -> None:
    x, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 1, 1)
    for size, dtype in ((LEAST_PIXELS - 8, torch.float32), (LEAST_PIXELS, torch.bfloat16)):
        with training_pass(CPU, "bfloat16", size):
            assert F.conv2d(x, weight).dtype == dtype
        with training_pass(CPU, "float32", size):
            assert F.conv2d(x, weight).dtype == torch.float32


def test_a_whole_step_is_near_that_in_float32() -> None:
    arch = mnas.zoo.get("mobilenet_v3_large", 0.5, 64)
    torch.manual_seed(0)
    network = mnas.build(arch, 10).to(memory_format=torch.channels_last).eval()
    x = torch.randn(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    found = []
    for precision in ("float32", "bfloat16"):
        network.zero_grad()
        with training_pass(CPU, precision, 64):  # type: ignore[arg-type]
            loss = F.cross_entropy(network(x).float(), torch.arange(8))
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert F.cosine_similarity(*found, dim=0) > 0.98


@pytest.mark.skipif(not has_bfloat16(CPU), reason="this CPU computes in float32 alone")
def test_it_learns_in_bfloat16() -> None:
    arch = mnas.zoo.get("mobilenet_v3_small", 0.5, 32)
    reached = {}
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        one = trainer(load_data("digits"), precision=precision)
        network = one.build(arch)
        for _ in one.fit(network, arch, Recipe(epochs=8, batch_size=32, ema=0.0)):
            pass
        one.finish(network, arch, 512)
        reached[precision] = one.accuracy(network, arch)
        assert all(p.dtype == torch.float32 for p in network.parameters())
    assert reached["bfloat16"] > reached["float32"] - 0.05 > 0.5
