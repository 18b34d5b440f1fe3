"""ExecuTorch, CPU with XNNPACK, float32. Lowering takes more than a second a layer, about ten a network."""

from __future__ import annotations

import copy
import importlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mnas.errors import MissingDependency
from mnas.latency.runtimes.files import naming
from mnas.latency.runtimes.silence import silence
from mnas.latency.timing.device import device_name as device_name
from mnas.latency.timing.rounds import wall_ms
from mnas.nn import blocks

try:
    with warnings.catch_warnings(), silence():
        # deprecations inside of executorch and of what it imports, and that its Python interface is experimental
        warnings.simplefilter("ignore")
        runtime: Any = importlib.import_module("executorch.extension.pybindings.portable_lib")
        exir: Any = importlib.import_module("executorch.exir")
        passes: Any = importlib.import_module("executorch.exir.passes")
        serialize: Any = importlib.import_module("executorch.exir._serialize._program")
        xnnpack: Any = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        runtime._threadpool_get_thread_count()  # the first call in a process makes the pool, and talks
except ImportError as error:
    raise MissingDependency(f"runtime executorch needs a package ({error}): pip install executorch") from None

name = "executorch"
channels_last = False
framed = False
suffix = ".pte"
timed_ms = wall_ms

_pool = 0
"""Number of thread pools made so far in this process."""


def version() -> str:
    return metadata.version("executorch")


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Lowers and runs `module`; the thread count is global, so call it inside `threads(count)`.

    The output is the runtime's own memory, which the next run overwrites.
    """
    del threads
    return _run(artifact(module, example), example.contiguous())


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs a .pte file with one input and one output, once already to check it."""
    del threads
    with naming(path, name):
        program = Path(path).read_bytes()
        with silence():
            run = _run(program, _as_the_program_reads(program, example))
            run()
    return run


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .pte file, for contiguous inputs of exactly this shape."""
    with warnings.catch_warnings(), torch.no_grad(), silence():
        # torch's and executorch's own use of what others deprecated
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        # contiguous, not channels_last, with which MobileNetV3-Small took 17% longer (224 pixels, one thread)
        exported = torch.export.export(_lowerable(module), (example.contiguous(),))
        lowered = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        # otherwise each run would first copy its input
        planning = passes.MemoryPlanningPass(alloc_graph_input=False)
        program: bytes = lowered.to_executorch(exir.ExecutorchBackendConfig(memory_planning_pass=planning)).buffer
    return program


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


def _run(program: bytes, x: Tensor) -> Callable[[], Tensor]:
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


class _PoolAndCut(nn.Module):
    """A PoolSkip to fewer channels without negative padding, which ExecuTorch does not run."""

    def __init__(self, skip: blocks.PoolSkip):
        super().__init__()
        self.pool, self.missing = skip.pool, skip.missing

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(x)[:, : self.missing]
        return out


def _lowerable(module: nn.Module) -> nn.Module:
    """A copy with weights in the default memory layout, which XNNPACK's lowering expects, and without batch norms.

    The lowering would fold batch norms into the convolutions too; folded here, it takes a third less time.
    """
    own = copy.deepcopy(module)
    for part in own.modules():
        if isinstance(part, blocks.ConvBNAct | blocks.SepConv | blocks.MBConv):
            _fold(part)
            if isinstance(part.shortcut, blocks.PoolSkip) and part.shortcut.missing < 0:
                part.shortcut = _PoolAndCut(part.shortcut)
    for parameter in own.parameters():
        # a clone: contiguous() keeps the strides that channels_last gave a 1x1 kernel
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return own


def _fold(block: nn.Module) -> None:
    """Folds each batch norm of a block into the convolution before it."""
    for (name, conv), (norm_name, norm) in itertools.pairwise(list(block.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(block, name, fuse_conv_bn_eval(conv, norm))
            setattr(block, norm_name, nn.Identity())


def _as_the_program_reads(program: bytes, example: Tensor) -> Tensor:
    """`example` in the layout of the program's input, which the runtime does not check."""
    plan = serialize.deserialize_pte_binary(program).program.execution_plan[0]
    if len(plan.inputs) != 1 or len(plan.outputs) != 1:
        raise ValueError(f"it has {len(plan.inputs)} inputs and {len(plan.outputs)} outputs, expected one of each")
    images = plan.values[plan.inputs[0]].val
    if tuple(images.sizes) != tuple(example.shape):
        raise ValueError(f"its input has the shape {tuple(images.sizes)}, expected {tuple(example.shape)}")
    channels_last = tuple(images.dim_order) == (0, 2, 3, 1)
    return example.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
