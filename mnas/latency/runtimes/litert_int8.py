"""LiteRT, CPU with XNNPACK, int8: layers and networks are quantised before they are timed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.export.quantize.litert import quantised_tflite
from mnas.export.tflite_graph import nhwc
from mnas.latency.runtimes.litert import array as _array
from mnas.latency.runtimes.litert import channels_last as channels_last
from mnas.latency.runtimes.litert import device_name as device_name
from mnas.latency.runtimes.litert import framed as framed
from mnas.latency.runtimes.litert import open_file as open_file
from mnas.latency.runtimes.litert import prepare_file as prepare_file
from mnas.latency.runtimes.litert import suffix as suffix
from mnas.latency.runtimes.litert import threads as threads
from mnas.latency.runtimes.litert import timed_ms as timed_ms
from mnas.latency.runtimes.litert import version as version
from mnas.latency.runtimes.litert_interpreter import InPlaceInference
from mnas.latency.runtimes.litert_interpreter import interpreter as _interpreter

name = "litert_int8"


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Quantises and runs `module`, which must consist of mnas's blocks; the output is the interpreter's own memory."""
    return InPlaceInference(_interpreter(artifact(module, example), threads), _array(nhwc(example)))


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .tflite file in int8, with the ranges of `example`."""
    if len(example) != 1:
        raise BadInput(f"runtime {name}: its files are for one image, not {len(example)}; leave --batch out")
    return quantised_tflite(module, example)
