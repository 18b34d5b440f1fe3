"""The mean of each channel, with a gradient in the layout of its input.

PyTorch's own gradient of a mean fills a tensor in the default layout, whatever the input's. Where the input is
channels_last, what is computed with it then walks through two layouts at once: with squeeze-and-excitation that took
several percent of a training step on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class QuickMean(TorchFunctionMode):
    """While active, `x.mean((2, 3))` of feature maps has the gradient of `ChannelMean`; all else is unchanged."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is Tensor.mean and torch.is_grad_enabled() and _of_channels(args, given):
            return ChannelMean.apply(args[0], given.get("keepdim", False))  # type: ignore[no-untyped-call]
        return func(*args, **given)


def _of_channels(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return len(args) == 2 and args[0].dim() == 4 and args[1] == (2, 3) and kwargs.keys() <= {"keepdim"}


class ChannelMean(torch.autograd.Function):
    """x (b, c, h, w) to its means over h and w: (b, c, 1, 1), or (b, c) without `keepdim`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keepdim: bool) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=keepdim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        batch, channels, height, width = ctx.shape
        # expanded, not filled: what reads it takes the layout of its other operand
        return (grad.reshape(batch, channels, 1, 1) / (height * width)).expand(ctx.shape), None
