"""PyTorch, eager, float32, on an NVIDIA GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.errors import MissingDependency
from mnas.latency.runtimes.files import naming
from mnas.latency.runtimes.torch import LAYOUT, in_layout, loaded, opened_on
from mnas.latency.runtimes.torch import artifact as artifact
from mnas.latency.runtimes.torch import suffix as suffix
from mnas.latency.runtimes.torch import version as version
from mnas.latency.timing.device import device_name as host_name

if not torch.cuda.is_available():
    raise MissingDependency(
        "runtimes cuda and cuda_graph need an NVIDIA GPU that torch can use, but torch.cuda.is_available() is False: "
        "install a CUDA build of torch, see https://pytorch.org"
    )

name = "cuda"
channels_last = True
framed = False


def device_name() -> str:
    """The GPU, and the processor that launches its kernels: with one image, launching decides the latency."""
    return f"{torch.cuda.get_device_name()} on {host_name()}"


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs a copy of `module` in channels_last on the GPU; the output stays there. Call it inside `threads(count)`."""
    del threads
    return _run(*on_gpu(copy.deepcopy(module), example))


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs the network of an exported model.py or a .pt2 file on the GPU, once already to check it."""
    del threads
    with naming(path, name):
        run = _run(*on_gpu(loaded(path), example))
        run()
        torch.cuda.synchronize()
    return run


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of the network of an exported model.py or a .pt2 file, computed on the GPU."""
    del threads
    return opened_on("cuda", path, example)


def timed_ms(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of one inference between two events on the GPU, the mean of `repeats` in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / repeats


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute convolutions in float32 inside the block, where torch's default is TF32. There are no threads to set."""
    del count
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    try:
        yield
    finally:
        conv.fp32_precision = before


def on_gpu(own: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """Moves both to the GPU, in channels_last; `own` is changed in place."""
    return own.to("cuda", memory_format=LAYOUT), in_layout(example.to("cuda"))  # type: ignore[call-overload]


def _run(own: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode():
            out: Tensor = own(x)
            return out

    return run
