"""Which layers int8 hurts most, found in PyTorch: one layer at a time computes as if in int8."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Layer = nn.Conv2d | nn.Linear


def quantisable_layers(network: nn.Module) -> dict[str, Layer]:
    """The convolutions and linear layers of a network by name."""
    return {name: part for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}


@torch.inference_mode()
def most_sensitive(network: nn.Module, images: Tensor) -> list[str]:
    """The names of all layers, most sensitive first.

    A layer's sensitivity is the mean squared change of the logits of normalised `images` (n, c, h, w) where it alone
    has int8 weights (symmetric, for each output channel) and an int8 input (asymmetric), as runtimes compute.
    """
    network = copy.deepcopy(network).eval()
    expected = network(images)
    errors = {}
    for name, layer in quantisable_layers(network).items():
        with _in_int8(layer):
            errors[name] = float((network(images) - expected).square().mean())
    return sorted(errors, key=lambda name: -errors[name])


@contextmanager
def _in_int8(layer: Layer) -> Iterator[None]:
    weight = layer.weight.data
    hook = layer.register_forward_pre_hook(lambda _, inputs: (_rounded_input(inputs[0]),))
    layer.weight.data = _rounded_weight(weight)
    try:
        yield
    finally:
        layer.weight.data = weight
        hook.remove()


def _rounded_weight(weight: Tensor) -> Tensor:
    """Symmetric, 127 steps on each side of zero, a scale for each output channel."""
    scale = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round() * scale


def _rounded_input(x: Tensor) -> Tensor:
    """Asymmetric, 255 steps from the smallest to the largest value, zero among them."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    return ((x - low) / scale).round() * scale + low
