"""ONNX Runtime, CPU provider, float32."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from mnas.errors import BadInput, MissingDependency

try:
    ort: Any = importlib.import_module("onnxruntime")
    from mnas.latency.onnx_graph import onnx_model
except ImportError as error:
    raise MissingDependency(f"runtime onnxruntime needs a package ({error}): pip install onnx onnxruntime") from None

name = "onnxruntime"
suffix = ".onnx"

# One arena for all sessions: a layer's own session then works in memory that the layer before has just used, as in
# the whole network. With an arena each, the sum of layers came out 7 points higher.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT), None
)


def version() -> str:
    return str(ort.__version__)


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """A session of `module`, which must be made of our blocks; it reads `example` where that lies."""
    return _run(_session(onnx_model(module, example).SerializeToString(), threads), example)


def prepare_file(path: Path, example: Tensor, threads: int) -> Callable[[], object]:
    """A session of an .onnx file with one input and one output; it has run once."""
    try:
        run = _run(_session(str(path), threads), example)
        run()
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise BadInput(f"{path}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from None
    return run


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A session has its own threads, so there is nothing global to hold."""
    del count
    yield


def _session(model: bytes | str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: Any, example: Tensor) -> Callable[[], object]:
    feed = {session.get_inputs()[0].name: np.ascontiguousarray(example.detach().numpy())}
    outputs = [session.get_outputs()[0].name]

    def run() -> object:
        return session.run(outputs, feed)[0]

    return run
