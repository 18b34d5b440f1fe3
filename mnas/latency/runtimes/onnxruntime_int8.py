"""ONNX Runtime, CPU provider, int8: layers and networks are quantised before they are timed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mnas.errors import MissingDependency

try:
    from mnas.export.onnx_graph import onnx_model
    from mnas.export.quantize.onnx import quantised_model
    from mnas.latency.runtimes.onnx_session import run_of as _run_of
    from mnas.latency.runtimes.onnx_session import session as _session
except ImportError as error:
    raise MissingDependency(
        f"runtime onnxruntime_int8 needs a package ({error}): pip install onnx onnxruntime"
    ) from None
from mnas.latency.runtimes.onnxruntime import array as _array
from mnas.latency.runtimes.onnxruntime import channels_last as channels_last
from mnas.latency.runtimes.onnxruntime import device_name as device_name
from mnas.latency.runtimes.onnxruntime import framed as framed
from mnas.latency.runtimes.onnxruntime import open_file as open_file
from mnas.latency.runtimes.onnxruntime import prepare_file as prepare_file
from mnas.latency.runtimes.onnxruntime import suffix as suffix
from mnas.latency.runtimes.onnxruntime import threads as threads
from mnas.latency.runtimes.onnxruntime import timed_ms as timed_ms
from mnas.latency.runtimes.onnxruntime import version as version

name = "onnxruntime_int8"


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Quantises and runs `module`, which must consist of mnas's blocks; `example` is read without a copy."""
    return _run_of(_session(artifact(module, example), threads), _array(example))


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of an .onnx file in int8, with the ranges of `example`."""
    return quantised_model(onnx_model(module, example, pool="GlobalAveragePool"), example)
