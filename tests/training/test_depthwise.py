"""The quick gradients of depthwise kernels against PyTorch's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from mnas import build
from mnas.space import zoo
from mnas.training import depthwise
from mnas.training.depthwise import QuickDepthwise


@pytest.mark.parametrize(("kernel", "apart", "shape"), [
    (3, 2, (6, 6)), (5, 2, (6, 6)), (5, 2, (7, 12)), (3, 4, (9, 5)), (7, 2, (20, 15)), (5, 2, (1, 1)),
])  # fmt: skip
@pytest.mark.parametrize("bfloat16", [False, True])
def test_gradients_of_dilated_kernels_are_pytorchs(
    kernel: int, apart: int, shape: tuple[int, int], bfloat16: bool
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 6, *shape), torch.randn(6, 1, kernel, kernel)

    def learned() -> tuple[torch.Tensor, ...]:
        a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = F.conv2d(a, w, None, 1, apart * (kernel // 2), apart, 6)
        (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        assert a.grad is not None
        assert w.grad is not None
        return y.detach().float(), a.grad, w.grad

    plain = learned()
    with QuickDepthwise(bfloat16):
        quick = learned()
    tolerance = {"rtol": 0.02, "atol": 0.2} if bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize(("kernel", "stride", "size"), [
    (3, 1, 1), (3, 1, 2), (3, 2, 2), (5, 1, 1), (5, 2, 2), (5, 1, 3), (5, 2, 4), (7, 1, 4), (7, 2, 5), (7, 1, 6),
    (3, 1, 8),
])  # fmt: skip
def test_gradients_are_pytorchs(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6, size, size, dtype=torch.float64)
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64)

    def learned() -> tuple[torch.Tensor, ...]:
        a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = F.conv2d(a, w, None, stride, kernel // 2, groups=6)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        assert a.grad is not None
        assert w.grad is not None
        return y.detach(), a.grad, w.grad

    plain = learned()
    with QuickDepthwise():
        quick = learned()
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other)


def test_only_what_is_slow_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels larger than their input, in training; a whole network's gradients stay the same."""
    taken: list[int] = []
    apply = depthwise._Depthwise.apply
    monkeypatch.setattr(
        depthwise._Depthwise, "apply", lambda x, weight, stride: taken.append(x.shape[-1]) or apply(x, weight, stride)
    )
    torch.manual_seed(0)
    network = build(zoo.get("mobilenet_v3_large", resolution=32), num_classes=4).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network(images).logsumexp(1).sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    network.eval()
    plain = gradients()
    with QuickDepthwise():
        quick = gradients()
        with torch.no_grad():
            network(images)
    assert sorted(taken) == sorted(
        size for layer in zoo.get("mobilenet_v3_large", resolution=32).layers()
        if layer.operator == "mbconv" and (size := layer.size) < layer.kernel
    )
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other)


def junk() -> None:
    """Leave other values behind in memory that is freed."""
    left = [torch.full((count,), 1e30) for count in (*range(8, 300, 4), 512, 800, 1024) for _ in range(3)]
    del left


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_rectangular_maps(kernel: int, stride: int, bfloat16: bool) -> None:
    """Also those narrower than the kernel, of which oneDNN's gradients in bfloat16 may be anything."""
    for shape in itertools.product((1, 2, 3, 4, 7, 12), repeat=2):
        torch.manual_seed(0)
        x = torch.randn(2, 8, *shape).to(memory_format=torch.channels_last)
        weight = torch.randn(8, 1, kernel, kernel)

        def learned(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
            a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
            y = F.conv2d(a, w, None, stride, kernel // 2, groups=8)
            junk()
            y.backward(torch.linspace(-1, 1, y.numel()).view_as(y).to(y.dtype))
            assert a.grad is not None
            assert w.grad is not None
            return y.detach(), a.grad, w.grad

        exact = learned(x.double(), weight.double())
        with QuickDepthwise(bfloat16), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            quick = learned(x, weight)
        for one, other in zip(exact, quick, strict=True):
            tolerance = (0.05 if bfloat16 else 1e-4) * float(one.abs().max())
            torch.testing.assert_close(other.double(), one, atol=tolerance, rtol=0)
