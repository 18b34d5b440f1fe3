"""Depthwise convolutions trained on CPUs, where oneDNN computes some of their gradients slowly.

That of a kernel which is larger than its input: 2 to 6 times as long as it need take with AVX-512; without, in
MobileNetV3-Large at 32 pixels it took three quarters of a training step. The gradient is a sum of products for each
position of the kernel, and few positions ever meet such a small input. Those of dilated kernels, as backbones under a
head have: ten times as long, see findings/torch-dilated-depthwise-gradient.sh. In bfloat16: see `depthwise_bf16`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from mnas.training.depthwise_bf16 import DepthwiseBF16


class QuickDepthwise(TorchFunctionMode):
    """While active, depthwise `conv2d`s have fast gradients: all in `bfloat16`, else of kernels that are slow.

    In bfloat16 too, kernels that exceed their inputs by more than a pixel are computed position by position.
    """

    def __init__(self, bfloat16: bool = False):
        super().__init__()
        self._bfloat16 = bfloat16

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and torch.is_grad_enabled():
            return self._conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
        kernel, step = weight.shape[-1], stride if isinstance(stride, int) else stride[0]
        apart = dilation if isinstance(dilation, int) else dilation[0]
        depthwise = groups == weight.shape[0] == x.shape[1] > 1 and weight.requires_grad and bias is None
        same = padding in (around := apart * (kernel // 2), (around, around)) and dilation in (apart, (apart, apart))
        if depthwise and same and stride in (step, (step, step)) and x.device.type == "cpu":
            if apart > 1:
                return self._dilated(x, weight, apart) if step == 1 else F.conv2d(
                    x, weight, bias, stride, padding, dilation, groups
                )
            quick: Tensor
            if max(x.shape[2:]) < kernel - self._bfloat16:
                quick = _Depthwise.apply(x, weight, step)  # type: ignore[no-untyped-call]
                return quick
            if self._bfloat16:
                quick = DepthwiseBF16.apply(x, weight, step)  # type: ignore[no-untyped-call]
                return quick
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    def _dilated(self, x: Tensor, weight: Tensor, apart: int) -> Tensor:
        """The convolution as that of every `apart`-th row and column, from each of the first ones on, as one batch."""
        batch, channels, height, width = x.shape
        x = F.pad(x, (0, -width % apart, 0, -height % apart))
        rows, columns = x.shape[2] // apart, x.shape[3] // apart
        parts = x.reshape(batch, channels, rows, apart, columns, apart).permute(3, 5, 0, 1, 2, 4).flatten(0, 2)
        y = self._conv2d(
            parts.contiguous(memory_format=torch.channels_last), weight, None, 1, weight.shape[-1] // 2, 1, channels
        ).reshape(apart, apart, batch, channels, rows, columns).permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)
        return y[:, :, :height, :width].contiguous(memory_format=torch.channels_last)


class _Depthwise(torch.autograd.Function):
    """conv2d of x (b, c, h, w) and weight (c, 1, k, k), padded by k // 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, weight), stride = ctx.saved_tensors, ctx.stride
        grad = grad.to(weight.dtype)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            padding = weight.shape[-1] // 2
            to_x = conv2d_input(  # type: ignore[no-untyped-call]
                x.shape, weight, grad, stride, padding, groups=len(weight)
            ).to(x.dtype)
        if ctx.needs_input_grad[1]:
            to_weight = torch.zeros_like(weight)
            for row, (in_y, out_y) in _met(weight.shape[-1], stride, x.shape[2], grad.shape[2]):
                for column, (in_x, out_x) in _met(weight.shape[-1], stride, x.shape[3], grad.shape[3]):
                    products = x[:, :, in_y, in_x] * grad[:, :, out_y, out_x]
                    to_weight[:, 0, row, column] = products.sum((0, 2, 3))
        return to_x, to_weight, None


def _met(kernel: int, stride: int, inputs: int, outputs: int) -> list[tuple[int, tuple[slice, slice]]]:
    """The positions along one side of the kernel that meet inputs: each with its slices of inputs and outputs."""
    positions = []
    for position in range(kernel):
        shift = position - kernel // 2
        met = [out for out in range(outputs) if 0 <= out * stride + shift < inputs]
        if met:
            first, last = met[0] * stride + shift, met[-1] * stride + shift
            positions.append((position, (slice(first, last + 1, stride), slice(met[0], met[-1] + 1))))
    return positions
