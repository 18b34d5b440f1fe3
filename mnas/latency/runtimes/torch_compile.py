"""PyTorch compiled by torch.compile (inductor, C++), float32, on the CPU."""

from __future__ import annotations

import copy
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mnas.errors import MissingDependency
from mnas.latency.runtimes.files import naming
from mnas.latency.runtimes.torch import LAYOUT, in_layout, loaded
from mnas.latency.runtimes.torch import artifact as artifact
from mnas.latency.runtimes.torch import open_file as open_file
from mnas.latency.runtimes.torch import suffix as suffix
from mnas.latency.runtimes.torch import threads as threads
from mnas.latency.runtimes.torch import version as version
from mnas.latency.timing.device import device_name as device_name
from mnas.latency.timing.rounds import wall_ms

with warnings.catch_warnings():
    # on its first import inductor uses parts of torch.jit, which are deprecated
    warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
    import torch._inductor.compile_fx
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

try:
    cpp_builder.get_cpp_compiler()
except InvalidCxxCompiler:
    raise MissingDependency(
        "runtime torch_compile needs a C++ compiler: apt install g++ (macOS: xcode-select --install), "
        "or name yours in the environment variable CXX"
    ) from None

name = "torch_compile"
channels_last = True
framed = False
timed_ms = wall_ms


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Compiles a copy of `module` and runs it once; takes seconds for a layer.

    The thread count is global and part of the compiled code, so call it and the result inside `threads(count)`.
    """
    del threads
    return _run(copy.deepcopy(module), example)


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Compiles the network of an exported model.py or a .pt2 file, and runs it once."""
    del threads
    with naming(path, name):
        return _run(loaded(path), example)


def _run(own: nn.Module, example: Tensor) -> Callable[[], Tensor]:
    own.to(memory_format=LAYOUT)  # type: ignore[call-overload]
    x = in_layout(example)

    def forward(x: Tensor) -> Tensor:
        out: Tensor = own(x)
        return out

    # torch keeps what it compiled with the code object: one code object for all layers would make it search through
    # all of them in each run, and run eager when they are more than its limit
    code = forward.__code__.replace()
    fresh = types.FunctionType(code, forward.__globals__, closure=forward.__closure__)
    compiled = torch.compile(fresh, fullgraph=True, dynamic=False)

    def run() -> Tensor:
        with torch.inference_mode():
            return compiled(x)

    run()
    return run
