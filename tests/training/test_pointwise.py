"""Pointwise convolutions of small maps: PyTorch's values and gradients, and no other convolution is touched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnas import build
from mnas.space import zoo
from mnas.training.pointwise import LARGEST_MAP, QuickPointwise


def learned(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs, and the gradients of input and weights."""
    module.zero_grad()
    a = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(a)
    (y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    gradients = [a.grad, *(weight.grad for weight in module.parameters())]
    return [y.detach(), *(gradient.clone() for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 2, LARGEST_MAP])
def test_values_and_gradients_are_pytorchs(size: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(12, 20, 1, bias=bias).double().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, 12, size, size, dtype=torch.float64).to(memory_format=torch.channels_last)
    plain = learned(module, x)
    linear, products = F.linear, list[Tensor]()
    monkeypatch.setattr(F, "linear", lambda *args: products.append(args[0]) or linear(*args))
    with QuickPointwise():
        quick = learned(module, x)
    assert len(products) == 1
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other)
        assert other.dim() < 4 or other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("options", "size"), [
    ({"kernel_size": 1}, LARGEST_MAP + 1), ({"kernel_size": 3, "padding": 1}, 1), ({"kernel_size": 1, "groups": 4}, 1),
    ({"kernel_size": 1, "stride": 2}, 3), ({"kernel_size": 1, "padding": 1}, 1),
])  # fmt: skip
def test_other_convolutions_are_pytorchs(
    options: dict[str, int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = nn.Conv2d(8, 12, **options), torch.randn(2, 8, size, size)  # type: ignore[arg-type]
    plain = learned(module, x)
    with QuickPointwise():
        monkeypatch.setattr(F, "linear", lambda *_: pytest.fail("it is computed as a product"))
        for one, other in zip(plain, learned(module, x), strict=True):
            assert torch.equal(one, other)


def test_a_whole_network() -> None:
    torch.manual_seed(0)
    network = build(zoo.get("mobilenet_v3_small", 0.35, 32), 10).double().eval()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    plain = learned(network, x)
    with QuickPointwise():
        for one, other in zip(plain, learned(network, x), strict=True):
            torch.testing.assert_close(one, other)
