"""Gates of squeeze-and-excitation as every reader of ONNX computes them."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from mnas.nn.blocks import SqueezeExcite

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def clipped_gates(module: M) -> M:
    """A copy in which each gate hard_sigmoid(conv(x)), the convolution scaled and shifted, is clip(conv(x), 0, 1).

    OpenCV's dnn module (4.10 to 5.0) takes Mul(x, HardSigmoid(y)) for HardSwish(y), without an error (opencv#26141).
    """
    module = copy.deepcopy(module)
    for part in module.modules():
        if isinstance(part, SqueezeExcite) and isinstance(part.gate, nn.Hardsigmoid):
            assert part.conv_expand.bias is not None
            part.conv_expand.weight /= 6
            part.conv_expand.bias /= 6
            part.conv_expand.bias += 0.5
            part.gate = nn.Hardtanh(0.0, 1.0)
    return module
