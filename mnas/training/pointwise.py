"""Pointwise convolutions of very small maps, trained on CPUs as the matrix products that they are.

oneDNN (in torch 2.13) takes about three times as long for a 1x1 convolution of a 1x1 map, forwards and backwards, as
for the same product as a linear layer: those of squeeze-and-excitation and of the head took a quarter of a training
step of MobileNetV3-Large at 48 pixels. Of larger maps than 3x3 the convolution is as fast, or faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LARGEST_MAP = 3
"""Pixels a side of the largest maps whose convolutions are computed as products."""


class QuickPointwise(TorchFunctionMode):
    """While active, 1x1 `conv2d`s of maps of at most LARGEST_MAP pixels a side are linear layers."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and torch.is_grad_enabled():
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    plain = groups == 1 and stride in (1, (1, 1)) and padding in (0, (0, 0)) and x.dim() == 4
    if plain and weight.shape[2:] == (1, 1) and max(x.shape[2:]) <= LARGEST_MAP:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
