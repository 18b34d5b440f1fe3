"""PyTorch, float32, on an NVIDIA GPU, as a CUDA graph: recorded once, then replayed without Python between kernels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mnas.latency.runtimes.cuda import artifact as artifact
from mnas.latency.runtimes.cuda import channels_last as channels_last
from mnas.latency.runtimes.cuda import framed as framed
from mnas.latency.runtimes.cuda import on_gpu
from mnas.latency.runtimes.cuda import open_file as open_file
from mnas.latency.runtimes.cuda import suffix as suffix
from mnas.latency.runtimes.cuda import threads as threads
from mnas.latency.runtimes.cuda import timed_ms as timed_ms
from mnas.latency.runtimes.cuda import version as version
from mnas.latency.runtimes.files import naming
from mnas.latency.runtimes.torch import loaded

name = "cuda_graph"
WARM_UPS = 3


def device_name() -> str:
    return torch.cuda.get_device_name()


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Replays a copy of `module` in channels_last; the output is the graph's own memory, overwritten by the next run.

    Call it inside `threads(count)`.
    """
    del threads
    return _run(*on_gpu(copy.deepcopy(module), example))


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Replays the network of an exported model.py or a .pt2 file, once already to check it."""
    del threads
    with naming(path, name):
        return _run(*on_gpu(loaded(path), example))


def _run(own: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """Records `own` after warm-up runs, on a side stream, as CUDA requires."""
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            own(x)
        # not torch.cuda.graph: before each of a table's hundreds of layers, that would empty the allocator's cache
        graph.capture_begin()
        try:
            out: Tensor = own(x)
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(side)

    def run() -> Tensor:
        graph.replay()
        return out

    run.reads = own, x  # type: ignore[attr-defined]  # the graph has their addresses alone, and does not keep them
    run()
    torch.cuda.synchronize()
    return run
