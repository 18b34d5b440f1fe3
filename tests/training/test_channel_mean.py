"""The mean of each channel: PyTorch's values and gradients, in the layout of the feature map."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn

from mnas import build
from mnas.space import zoo
from mnas.training import channel_mean
from mnas.training.channel_mean import QuickMean


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (2, 1, 1, 1), (1, 8, 7, 7)])
def test_values_and_gradients_are_pytorchs(shape: tuple[int, ...], keepdim: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)

    def learned() -> tuple[Tensor, Tensor]:
        a = x.clone().requires_grad_()
        y = a.mean((2, 3), keepdim=keepdim)
        (y * torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view_as(y)).sum().backward()  # type: ignore[no-untyped-call]
        assert a.grad is not None
        return y.detach(), a.grad

    plain = learned()
    with QuickMean():
        quick = learned()
    for one, other in zip(plain, quick, strict=True):
        torch.testing.assert_close(one, other)


def test_other_means_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_mean.ChannelMean, "apply", lambda *_: pytest.fail("this mean is not of channels"))
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    with QuickMean():
        for mean in (x.mean(), x.mean(1), x.mean((1, 2)), x.mean((2, 3), dtype=torch.float64), x[0].mean((1, 2))):
            mean.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            x.mean((2, 3))


def test_gradients_keep_the_layout() -> None:
    """The gradient of what is pooled alone is in the layout of its input; PyTorch's own mean gives the default one."""
    layouts = []
    for mode in (QuickMean(), contextlib.nullcontext()):
        x = torch.randn(4, 16, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
        norm, seen = nn.BatchNorm2d(16), list[Tensor]()
        with mode:
            y = norm(x)
            y.register_hook(seen.append)
            nn.functional.hardswish(y).mean((2, 3)).square().sum().backward()  # type: ignore[no-untyped-call]
        layouts.append(seen[0].is_contiguous(memory_format=torch.channels_last))
    assert layouts == [True, False]


def test_a_networks_gradients_stay_the_same() -> None:
    torch.manual_seed(0)
    network = build(zoo.get("mobilenet_v3_small", 0.5, 32), num_classes=4).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)

    def gradients() -> list[Tensor]:
        network.zero_grad()
        network(images).logsumexp(1).sum().backward()  # type: ignore[no-untyped-call]
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    plain = gradients()
    with QuickMean():
        quick = gradients()
    torch.testing.assert_close(quick, plain)
