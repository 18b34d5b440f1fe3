"""Training steps within the memory: a batch in parts, whose gradients add up to those of the whole."""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable

import torch

from mnas.io.size import Size, pixels, sides, strided
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs

log = logging.getLogger("mnas")

LIMIT_BYTES = 2 * 10**9
"""Activations of a step on a CPU, above which its batch is split. Two thirds of a search at 224 px are others'."""
BYTES_AN_ELEMENT = 4
KEPT = 3
"""Tensors of a layer's size that its backward pass needs: of convolution, normalisation and activation."""


def parts_of(batch: int, arch: Architecture, size: Size, device: torch.device, outputs: Outputs = 1000) -> int:
    """Into how many parts a batch of images of `size` is split: 1 where the activations of `arch` are few.

    On a GPU always 1: `accumulate` splits it where memory is short.
    """
    if device.type != "cpu":
        return 1
    (height, width), (full_height, full_width) = sides(size), sides(arch.resolution)
    needed = batch * activation_bytes(arch, outputs) * (height / full_height) * (width / full_width)
    return max(1, min(batch // 2, math.ceil(needed / LIMIT_BYTES)))


def judged_at_once(size: Size) -> int:
    """Images of `size` in a batch of an evaluation: fewer large ones, whose activations would take gigabytes."""
    return max(16, min(256, 256 * 112**2 // pixels(size)))


def activation_bytes(arch: Architecture, outputs: Outputs = 1000) -> float:
    """About how many bytes the backward pass of `arch` needs for an image at its resolution, in float32."""
    elements = 0.0
    for layer in arch.layers(outputs):
        out = pixels(strided(layer.size, layer.stride))
        if layer.operator == "mbconv":
            elements += layer.hidden * (pixels(layer.size) + out)
        elements += layer.out_channels * out
        if layer.operator == "sepconv":
            elements += layer.in_channels * out
    return KEPT * BYTES_AN_ELEMENT * elements


def accumulate(begin: Callable[[], None], add: Callable[[slice], None], batch: int, parts: int) -> int:
    """Call `begin`, then `add` for each of `parts` parts of a batch; returns the number of parts.

    Where memory is short, all begins again with twice as many parts, down to two images; then the error is raised.
    """
    while True:
        begin()
        try:
            for first, last in bounds(batch, parts):
                add(slice(first, last))
            if parts > 1:
                _log_parts(batch, parts)
            return parts
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or 2 * parts > batch // 2:
                raise
        parts *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: batches of %d images are split into %d parts from now on", batch, parts)


@functools.cache
def _log_parts(batch: int, parts: int) -> None:
    """Once a process for each case: hundreds of candidates may have the same."""
    log.info("batches of %d images are trained on in %d parts, to save memory", batch, parts)


def bounds(batch: int, parts: int) -> list[tuple[int, int]]:
    """First and last, exclusive, of parts of nearly equal sizes."""
    edges = [round(batch * part / parts) for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or torch ran out of memory, on a GPU or on the CPU, where torch raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    texts = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
