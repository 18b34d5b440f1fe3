"""ExecuTorch, CPU with XNNPACK, float32. Lowering takes more than a second a layer, about ten a network."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.errors import MissingDependency
from mnas.io.silence import silence
from mnas.latency.runtimes.files import naming
from mnas.latency.timing.device import device_name as device_name
from mnas.latency.timing.rounds import wall_ms

try:
    with warnings.catch_warnings(), silence():
        # deprecations inside of executorch and of what it imports, and that its Python interface is experimental
        warnings.simplefilter("ignore")
        runtime: Any = importlib.import_module("executorch.extension.pybindings.portable_lib")
        serialize: Any = importlib.import_module("executorch.exir._serialize._program")
        from mnas.export.pte import pte_program

        runtime._threadpool_get_thread_count()  # the first call in a process makes the pool, and talks
except ImportError as error:
    raise MissingDependency(f"runtime executorch needs a package ({error}): pip install executorch") from None

name = "executorch"
channels_last = False
framed = False
suffix = ".pte"
timed_ms = wall_ms

_schemas = resources.files(serialize.__package__)
SCHEMA = re.findall(rb'file_identifier "(\w{4})"', (_schemas / "program.fbs").read_bytes())[0]
"""What programs begin with, after four bytes: ET and the version of their schema."""

_pool = 0
"""Number of thread pools made so far in this process."""


def version() -> str:
    return metadata.version("executorch")


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Lowers and runs `module`; the thread count is global, so call it inside `threads(count)`.

    The output is the runtime's own memory, which the next run overwrites.
    """
    del threads
    return run_of(artifact(module, example), example.contiguous())


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs a .pte file with one input and one output, once already to check it."""
    del threads
    with naming(path, name):
        program = Path(path).read_bytes()
        with silence():
            run = run_of(program, _as_the_program_reads(program, example))
            run()
    return run


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .pte file, for contiguous inputs of exactly this shape."""
    return pte_program(module, example)


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of a .pte file with one input and one output."""
    del threads
    with naming(path, name), silence():
        program = Path(path).read_bytes()
        held = _as_the_program_reads(program, example).clone()
        run = run_of(program, held)
        run()

    def outputs(images: Tensor) -> NDArray[np.float32]:
        held.copy_(images)
        return run().numpy().copy()

    return outputs


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the size of the process's thread pool to `count` inside the block."""
    before = runtime._threadpool_get_thread_count()
    _resize_pool(count)
    try:
        yield
    finally:
        _resize_pool(before)


def _resize_pool(count: int) -> None:
    global _pool
    if count != runtime._threadpool_get_thread_count():
        with silence():
            runtime._unsafe_reset_threadpool(count)
        _pool += 1


def run_of(program: bytes, x: Tensor) -> Callable[[], Tensor]:
    """Runs a program's content on `x`, in the layout that it reads."""
    loaded_for = -1
    method: Any = None

    def run() -> Tensor:
        nonlocal loaded_for, method
        if loaded_for != _pool:  # a loaded program points to the thread pool of then, which is gone
            loaded_for, method = _pool, runtime._load_for_executorch_from_buffer(program)
        out: Tensor = method.forward((x,), clone_outputs=False)[0]
        out.memory = program, method  # type: ignore[attr-defined]  # neither keeps the memory that it points to
        return out

    return run


def _as_the_program_reads(program: bytes, example: Tensor) -> Tensor:
    """`example` in the layout of the program's input, which the runtime does not check."""
    if program[4:6] == SCHEMA[:2] and program[4:8] != SCHEMA:
        raise ValueError(f"schema version {program[4:8].decode()} does not match this version {SCHEMA.decode()}")
    plan = serialize.deserialize_pte_binary(program).program.execution_plan[0]
    if len(plan.inputs) != 1 or len(plan.outputs) != 1:
        raise ValueError(f"it has {len(plan.inputs)} inputs and {len(plan.outputs)} outputs, expected one of each")
    images = plan.values[plan.inputs[0]].val
    if tuple(images.sizes) != tuple(example.shape):
        raise ValueError(f"its input has the shape {tuple(images.sizes)}, expected {tuple(example.shape)}")
    channels_last = tuple(images.dim_order) == (0, 2, 3, 1)
    return example.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
