"""Layers of every kind, and whether a runtime computes for them what PyTorch does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mnas.latency.runtimes import get_runtime
from mnas.space.layer import Layer

OPERATORS: tuple[Any, ...] = ("conv", "sepconv", "mbconv")
ACTIVATIONS: tuple[Any, ...] = ("none", "relu", "relu6", "hard_swish")
GATES: tuple[Any, ...] = ("sigmoid", "hard_sigmoid")
LAYERS = [
    *(Layer("conv", 9, 5, 8, 3, 2, activation=activation) for activation in ACTIVATIONS),
    *(Layer("linear", 1, 12, 7, activation=activation) for activation in ACTIVATIONS),
    Layer("conv", 9, 8, 8, 3, 1, activation="relu", skip="identity"),
    Layer("pool", 7, 5, 5),
    *(
        Layer("mbconv", 9, 8, 16, kernel, 2, 24, 8, gate, activation)
        for kernel, gate, activation in zip((3, 5, 7), itertools.cycle(GATES), ACTIVATIONS[1:], strict=False)
    ),
    *(
        Layer("sepconv", 10, 8, 12, 3, 1, 0, 4, gate, "relu6", output_activation=activation)
        for gate, activation in itertools.product(GATES, ACTIVATIONS)
    ),
    *(
        Layer(operator, size, 8, out, 3, stride, 16 if operator == "mbconv" else 0, activation="relu", skip="pool")
        for operator, size, out, stride in itertools.product(OPERATORS, (7, 8), (4, 8, 13), (1, 2))
    ),
    *(
        Layer(operator, size, 8, 13, 5, 2, 16 if operator == "mbconv" else 0, activation="relu", skip="pool")
        for operator, size in itertools.product(OPERATORS, ((7, 10), (10, 7), (6, 4), (5, 9)))
    ),
    Layer("pool", (3, 5), 5, 5),
]


def lively(module: nn.Module) -> nn.Module:
    """`module` in eval mode with batch normalisations that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.3, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def array(out: Any) -> NDArray[np.float32]:
    """A copy, since some runtimes give the same memory again."""
    return out.cpu().numpy().copy() if isinstance(out, torch.Tensor) else np.array(out)


def expect_close(out: object, module: nn.Module, x: torch.Tensor, tolerance: float) -> None:
    with torch.inference_mode():
        expected = module(x).numpy()
    assert expected.std() > 1e-3
    found = array(out)
    assert found.shape == expected.shape
    atol = tolerance * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=atol)


def expect_equal(runtime: str, module: nn.Module, x: torch.Tensor) -> None:
    expect_close(get_runtime(runtime).prepare(module, x, 1)(), module, x, 1e-4)
