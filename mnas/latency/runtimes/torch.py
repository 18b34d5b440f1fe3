"""PyTorch, eager, float32, on the CPU."""

from __future__ import annotations

import copy
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.latency.runtimes.heap import steady_heap

name = "torch"
suffix = ".pt2"

# MobileNetV3-Large, 224x224, batch 1, one thread: 12.2 ms channels last against 13.9 ms contiguous
_LAYOUT = torch.channels_last


def version() -> str:
    return str(torch.__version__)


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs a copy of `module` in channels_last; the thread count is global, so call it inside `threads(count)`."""
    del threads
    own = copy.deepcopy(module).to(memory_format=_LAYOUT)  # type: ignore[call-overload]
    x = example.to(memory_format=_LAYOUT) if example.dim() == 4 else example

    def run() -> Tensor:
        with torch.inference_mode():
            out: Tensor = own(x)
            return out

    return run


def prepare_file(path: Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs the trained network of an exported model.py."""
    if path.suffix != ".py":
        raise BadInput(f"{path}: the torch runtime runs an exported model.py; --runtime onnxruntime runs .onnx files")
    return prepare(runpy.run_path(str(path))["build_model"](), example, threads)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Holds torch's intra-op thread count at `count`, and the heap steady."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with steady_heap():
            yield
    finally:
        torch.set_num_threads(before)
