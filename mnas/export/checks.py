"""The check that an exported network computes what the trained one does."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mnas.errors import MnasError


def plain_copy(network: nn.Module) -> nn.Module:
    """A float32 copy on the CPU in the default memory layout, in eval mode; the network itself stays as it is."""
    plain: nn.Module = copy.deepcopy(network).float().cpu().eval()
    for parameter in plain.parameters():
        # a clone: contiguous() keeps the strides that channels_last gave a 1x1 kernel
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return plain


def check_equal(network: nn.Module, images: Tensor, got: Tensor, tolerance: float, what: str) -> None:
    """MnasError where logits `got` (b, n) differ from those of a `plain_copy` by more than `tolerance`.

    Relative where logits exceed 1. A network that was hardly trained amplifies rounding: what float32 itself loses
    against float64 is no difference of the file.
    """
    with torch.inference_mode():
        expected = network(images)
        exact = copy.deepcopy(network).double()(images.double())
    if expected.shape != got.shape:
        raise MnasError(f"{what}: expected logits of shape {tuple(expected.shape)}, got {tuple(got.shape)}")
    difference = float((expected - got).abs().max())
    rounding = float((expected - exact).abs().max())
    allowed = tolerance * max(1.0, float(expected.abs().max())) + 10 * rounding
    if not difference <= allowed:  # a NaN compares false
        raise MnasError(
            f"{what}: its logits differ from the trained network's by {difference:.3g}, more than {allowed:.3g}; "
            "do not use this file. Look for NaN in the weights; if there is none, report this with architecture.yaml."
        )
