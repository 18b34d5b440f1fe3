"""OpenVINO, CPU plugin, float32."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.errors import BadInput, MissingDependency
from mnas.latency.runtimes.files import naming
from mnas.latency.timing.device import device_name as device_name
from mnas.latency.timing.rounds import wall_ms

try:
    ov: Any = importlib.import_module("openvino")
    frontend: Any = importlib.import_module("openvino.frontend")
    from mnas.export.onnx_graph import onnx_model
except ImportError as error:
    raise MissingDependency(f"runtime openvino needs a package ({error}): pip install openvino onnx") from None

name = "openvino"
channels_last = False
framed = True
timed_ms = wall_ms
suffix = ".onnx"

_CORE = ov.Core()


def version() -> str:
    return metadata.version("openvino")


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Compiles and runs `module`, which must consist of mnas's blocks; the output is the request's own memory."""
    return run_of(_CORE.read_model(artifact(module, example)), example, threads)


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], object]:
    """Compiles and runs an .xml or .onnx file with one input and one output, for the shape of `example`."""
    with naming(path, name):
        run = run_of(_read(path, example), example, threads)
        run()
    return run


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of an .xml or .onnx file with one input and one output."""
    with naming(path, name):
        compiled = _compiled(_read(path, example), threads)

    def outputs(images: Tensor) -> NDArray[np.float32]:
        return np.array(compiled([images.detach().contiguous().numpy()])[0])

    return outputs


def _read(path: str | Path, example: Tensor) -> Any:
    """The model of a file, for the shape of `example`."""
    # not Core.read_model, which tries all formats on a broken file, and they write to stderr
    reader = frontend.FrontEndManager().load_by_framework("ir" if Path(path).suffix == ".xml" else "onnx")
    model = reader.convert(reader.load(str(path)))
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise BadInput(
            f"{path}: it has {len(model.inputs)} inputs and {len(model.outputs)} outputs, expected one of each"
        )
    model.reshape(list(example.shape))
    return model


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of an .onnx file."""
    content: bytes = onnx_model(module, example).SerializeToString()
    return content


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Does nothing: each compiled model has its own thread count."""
    del count
    yield


def _compiled(model: Any, threads: int) -> Any:
    return _CORE.compile_model(
        model,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            # whoever measures pins the process to cores (latency/quiet.py)
            "ENABLE_CPU_PINNING": False,
        },
    )


def run_of(model: Any, example: Tensor, threads: int) -> Callable[[], object]:
    """Compiles a model of OpenVINO and runs it on `example`; gives its first output."""
    request = _compiled(model, threads).create_infer_request()
    images = example.detach().contiguous().numpy()
    request.set_input_tensor(ov.Tensor(images, shared_memory=True))
    out = request.get_output_tensor(0).data

    def run() -> object:
        request.infer(share_outputs=True)  # otherwise it also gives a copy
        return out

    run.reads = images  # type: ignore[attr-defined]  # the request has their address alone, and does not keep them
    return run
