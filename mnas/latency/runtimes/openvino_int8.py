"""OpenVINO, CPU, int8: layers and networks are quantised before they are timed, in half a second a layer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from torch import Tensor, nn

from mnas.errors import BadInput, MissingDependency

MISSING = MissingDependency("runtime openvino_int8 needs packages: pip install openvino onnx nncf")

try:
    from mnas.latency.runtimes.openvino import channels_last as channels_last
    from mnas.latency.runtimes.openvino import device_name as device_name
    from mnas.latency.runtimes.openvino import framed as framed
    from mnas.latency.runtimes.openvino import open_file as open_file
    from mnas.latency.runtimes.openvino import prepare_file as prepare_file
    from mnas.latency.runtimes.openvino import run_of as _run_of
    from mnas.latency.runtimes.openvino import threads as threads
    from mnas.latency.runtimes.openvino import timed_ms as timed_ms
    from mnas.latency.runtimes.openvino import version as version
except MissingDependency:
    raise MISSING from None
if importlib.util.find_spec("nncf") is None:
    raise MISSING

name = "openvino_int8"
suffix = ".xml"


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Quantises, compiles and runs `module`, which must consist of mnas's blocks.

    The output is the request's own memory.
    """
    from mnas.export.onnx_graph import onnx_model
    from mnas.export.quantize.openvino import quantised_model

    with quantised_model(onnx_model(module, example, pool="GlobalAveragePool"), example) as model:
        return _run_of(model, example, threads)


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """BadInput: an int8 model is two files, which `mnas export --format openvino --precision int8` writes."""
    del module, example
    raise BadInput(
        f"runtime {name}: its models are two files each; mnas export --format openvino --precision int8 writes them"
    )
