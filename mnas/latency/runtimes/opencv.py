"""OpenCV's dnn module on the CPU, float32."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    cv2: Any = importlib.import_module("cv2")
    onnx: Any = importlib.import_module("onnx")
    shape_inference: Any = importlib.import_module("onnx.shape_inference")
    from mnas.export.onnx_graph import onnx_model
except ImportError as error:
    raise MissingDependency(
        f"runtime opencv needs a package ({error}): pip install opencv-python-headless onnx"
    ) from None

name = "opencv"
channels_last = False
framed = True
timed_ms = wall_ms
suffix = ".onnx"


def version() -> str:
    return str(cv2.__version__)


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Runs `module`, which must consist of mnas's blocks; `example` is read without a copy."""
    return _run(cv2.dnn.readNetFromONNX(np.frombuffer(artifact(module, example), np.uint8)), example, threads)


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], object]:
    """Runs an .onnx file with one input and one output, once already to check it."""
    with naming(path, name):
        _check_input(path, example)
        run = _run(cv2.dnn.readNetFromONNX(str(path)), example, threads)
        run()
    return run


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of an .onnx file with one input and one output."""
    del threads
    with naming(path, name):
        _check_input(path, example)
        network = cv2.dnn.readNetFromONNX(str(path))

        def outputs(images: Tensor) -> NDArray[np.float32]:
            network.setInput(np.ascontiguousarray(images.detach().numpy()))
            return np.array(network.forward())

        outputs(example)
    return outputs


def _check_input(path: str | Path, example: Tensor) -> None:
    """OpenCV runs a file on images of any number of channels, whatever the file says."""
    dims = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    stated = [dim.dim_value for dim in dims]
    if len(stated) != example.ndim or any(size not in (0, of) for size, of in zip(stated, example.shape, strict=True)):
        raise BadInput(f"{path}: its input is {stated} (0: any), not {list(example.shape)}")


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of an .onnx file, with the output's shape, which OpenCV needs."""
    content: bytes = shape_inference.infer_shapes(onnx_model(module, example)).SerializeToString()
    return content


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the threads of OpenCV, which all of its networks share."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _run(network: Any, example: Tensor, threads: int) -> Callable[[], object]:
    images = np.ascontiguousarray(example.detach().numpy())

    def run() -> object:
        network.setInput(images)
        return network.forward()

    return run
