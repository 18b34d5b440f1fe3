"""The precision of training: float32, or bfloat16 where the processor is faster with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from mnas.io.heap import steady_heap
from mnas.io.size import Size, pixels
from mnas.training.channel_mean import QuickMean
from mnas.training.depthwise import QuickDepthwise
from mnas.training.pointwise import QuickPointwise

Precision = Literal["float32", "bfloat16"]

LEAST_PIXELS = 48
"""Side of squares: CPUs train on smaller images in float32. At 32 px bfloat16 was 6% slower (MobileNetV3-Large, batch
64)."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 natively, so that it is worth a try; `speed.fastest` measures it."""
    if device.type == "cuda":
        return True
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(check() for check in checks if check is not None)


def uses_bfloat16(device: torch.device, size: Size) -> bool:
    """Whether a training in bfloat16 computes in it for images of `size`: not for small ones on a CPU."""
    return device.type != "cpu" or pixels(size) >= LEAST_PIXELS**2


@contextlib.contextmanager
def training_pass(device: torch.device, precision: Precision, size: Size) -> Iterator[None]:
    """The context of a training step's forward pass on images of `size`; logits may be in either precision."""
    if device.type == "cpu":
        low = precision == "bfloat16" and uses_bfloat16(device, size)
        with QuickDepthwise(low), QuickPointwise(), QuickMean(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            yield
    else:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield


def training_heap(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The context of many training steps: on a CPU, freed memory stays with the process (1.2 times as fast)."""
    return steady_heap() if device.type == "cpu" else contextlib.nullcontext()


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of an evaluation: bfloat16 on CUDA, float32 elsewhere."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
