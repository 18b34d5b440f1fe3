"""ONNX Runtime, CPU provider, float32."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.errors import MissingDependency
from mnas.latency.runtimes.files import naming
from mnas.latency.timing.device import device_name as device_name

try:
    importlib.import_module("onnxruntime")
    from mnas.export.onnx_graph import onnx_model
    from mnas.latency.runtimes.onnx_session import run_of as _run_of
    from mnas.latency.runtimes.onnx_session import session as _session
    from mnas.latency.runtimes.onnx_session import timed_ms as timed_ms
    from mnas.latency.runtimes.onnx_session import version as version
except ImportError as error:
    raise MissingDependency(f"runtime onnxruntime needs a package ({error}): pip install onnx onnxruntime") from None

name = "onnxruntime"
channels_last = False
framed = True
suffix = ".onnx"


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Runs `module`, which must consist of mnas's blocks; `example` is read without a copy."""
    return _run_of(_session(artifact(module, example), threads), array(example))


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], object]:
    """Runs an .onnx file with one input and one output, once already to check it."""
    with naming(path, name):
        return _run_of(_session(str(path), threads), array(example))


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of an .onnx file with one input and one output."""
    with naming(path, name):
        session = _session(str(path), threads)
        feed, outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]
        session.run(outputs, {feed: array(example)})
    return lambda images: np.array(session.run(outputs, {feed: array(images)})[0])


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of an .onnx file."""
    content: bytes = onnx_model(module, example).SerializeToString()
    return content


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Does nothing: each session has its own threads."""
    del count
    yield


def array(example: Tensor) -> NDArray[np.float32]:
    """An input as the runtime reads it, without a copy where it is contiguous."""
    return np.ascontiguousarray(example.detach().numpy())
