"""ExecuTorch, CPU with XNNPACK, int8. Quantising and lowering take about three seconds a layer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.latency.runtimes.executorch import channels_last as channels_last
from mnas.latency.runtimes.executorch import device_name as device_name
from mnas.latency.runtimes.executorch import open_file as open_file
from mnas.latency.runtimes.executorch import prepare_file as prepare_file
from mnas.latency.runtimes.executorch import run_of as _run_of
from mnas.latency.runtimes.executorch import suffix as suffix
from mnas.latency.runtimes.executorch import threads as threads
from mnas.latency.runtimes.executorch import timed_ms as timed_ms
from mnas.latency.runtimes.executorch import version as version

name = "executorch_int8"
framed = True
"""A layer alone would also be timed passing from float32 to int8 and back, which happens once a network."""


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Quantises, lowers and runs `module`; call it inside `threads(count)`.

    The output is the runtime's own memory, which the next run overwrites.
    """
    del threads
    return _run_of(artifact(module, example), example.contiguous())


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .pte file in int8, with the ranges of `example`."""
    if len(example) != 1:
        raise BadInput(f"runtime {name}: its files are for one image, not {len(example)}; leave --batch out")
    from mnas.export.quantize.executorch import quantised_program  # its packages came with the adapter

    return quantised_program(module, example)
