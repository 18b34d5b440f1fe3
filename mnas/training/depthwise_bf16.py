"""Depthwise convolutions trained in bfloat16 on CPUs.

oneDNN (in torch 2.13) computes some of their gradients in bfloat16 by its kernels for general convolutions, see
findings/torch-bf16-strided-depthwise-gradient.sh: that of the input at stride 2 took 20 to 140 times as long as in
float32, that of a 5x5 kernel 2 to 7 times. Here the first is put together from convolutions at stride 1, and the second
from gradients of 3x3 kernels; those of 7x7 kernels on maps of more than 8 pixels are computed in float32. So are those
of 3x3 kernels on maps of one column, of which oneDNN gives memory that nothing was written to, at stride 2: see
findings/torch-bf16-narrow-depthwise-gradient.sh.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class DepthwiseBF16(torch.autograd.Function):
    """conv2d of x (b, c, h, w) and weight (c, 1, k, k), padded by k // 2, in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x, low = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, low, None, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x, weight), stride = ctx.saved_tensors, ctx.stride
        to_x = input_gradient(grad, weight, x.shape, stride) if ctx.needs_input_grad[0] else None
        to_weight = weight_gradient(grad, x, weight, stride) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None


def input_gradient(grad: Tensor, weight: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """The gradient of an input of this shape."""
    low, kernel = weight.bfloat16(), weight.shape[-1]
    if stride == 1:
        return F.conv2d(grad, low.flip(2, 3), None, 1, kernel // 2, groups=len(weight))
    if stride > 2 or kernel < 3:
        return _backward(grad.float(), grad.new_empty(1).float().expand(shape), weight.float(), stride, 0).bfloat16()
    out = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
    for row in range(min(2, shape[2])):
        for column in range(min(2, shape[3])):
            out[:, :, row::2, column::2] = _phase(grad, low, (row, column), shape)
    return out


def _phase(grad: Tensor, weight: Tensor, phase: tuple[int, int], shape: torch.Size) -> Tensor:
    """The gradient of every second row and column of an input, from these on: few of the kernel's positions meet them.

    Input 2 i + phase meets output i + d by the kernel's position phase + k // 2 - 2 d.
    """
    half, pads, taps = weight.shape[-1] // 2, list[int](), list[list[int]]()
    for axis, first in ((3, phase[1]), (2, phase[0])):
        meets = [d for d in range(-half, half + 1) if 0 <= first + half - 2 * d <= 2 * half]
        taps.append([first + half - 2 * d for d in meets])
        count = (shape[axis] - first + 1) // 2
        pads += [-meets[0], count + meets[-1] - grad.shape[axis]]
    kernel = weight[:, :, taps[1]][:, :, :, taps[0]]
    return F.conv2d(F.pad(grad, pads), kernel, groups=len(weight))


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of the weight, in its own precision."""
    kernel = weight.shape[-1]
    if kernel == 3 and min(x.shape[2:]) == 1:
        gradient = _backward(grad.float(), x.float(), weight.float(), stride, 1)
    elif kernel <= 3:
        gradient = _backward(grad, x, weight.bfloat16(), stride, 1)
    elif stride <= 2 and (kernel == 5 or max(x.shape[2:]) <= 8):
        gradient = _by_tiles(grad, x, weight, stride)
    else:
        gradient = _backward(grad.float(), x.float(), weight.float(), stride, 1)
    return gradient.to(weight.dtype)


def _by_tiles(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of a kernel as those of overlapping 3x3 kernels, each with its part of the padded input."""
    kernel = weight.shape[-1]
    padded = F.pad(x, [kernel // 2] * 4)
    height, width = (stride * (side - 1) + 3 for side in grad.shape[2:])
    tile = weight.new_empty(1, dtype=x.dtype).expand(len(weight), 1, 3, 3)
    gradient = torch.empty_like(weight)
    for top in range(0, kernel - 2, 2):
        for left in range(0, kernel - 2, 2):
            part = padded[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
            gradient[:, :, top : top + 3, left : left + 3] = _backward(grad, part, tile, stride, 1, padding=0)
    return gradient


def _backward(grad: Tensor, x: Tensor, weight: Tensor, stride: int, which: int, padding: int | None = None) -> Tensor:
    """oneDNN's gradient of the input (`which` 0) or of the weight (1)."""
    padding = weight.shape[-1] // 2 if padding is None else padding
    mask = [which == 0, which == 1, False]
    gradient: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight), mask
    )[which]
    return gradient
