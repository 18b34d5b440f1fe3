"""LiteRT (TensorFlow Lite), CPU with XNNPACK, float32."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

try:
    importlib.import_module("ai_edge_litert")
    from mnas.export.tflite_graph import nhwc, tflite_model
    from mnas.latency.runtimes.litert_interpreter import InPlaceInference, feed, nchw
    from mnas.latency.runtimes.litert_interpreter import interpreter as _interpreter
    from mnas.latency.runtimes.litert_interpreter import timed_ms as timed_ms
    from mnas.latency.runtimes.litert_interpreter import version as version
except ImportError as error:
    raise MissingDependency(f"runtime litert needs a package ({error}): pip install ai-edge-litert") from None

name = "litert"
channels_last = False
framed = True
suffix = ".tflite"


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], object]:
    """Runs `module`, which must consist of mnas's blocks; the output is the interpreter's own memory."""
    return InPlaceInference(_interpreter(artifact(module, example), threads), array(nhwc(example)))


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], object]:
    """Runs a .tflite file with one output and one float32 input: (b, h, w, c) or (b, c, h, w)."""
    with naming(path, name), silence():
        run = _run_of(*_opened(Path(path).read_bytes(), example, threads))
        run()
    return run


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of a .tflite file with one output and one float32 input: (b, h, w, c) or (b, c, h, w)."""
    with naming(path, name), silence():
        opened, channels_last = _opened(Path(path).read_bytes(), example, threads)
        run = _run_of(opened, channels_last)
        run()

    def outputs(images: Tensor) -> NDArray[np.float32]:
        feed(opened, array(nhwc(images) if channels_last else images))
        return run()

    return outputs


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .tflite file, for images in the layout (b, h, w, c)."""
    return tflite_model(module, example)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Does nothing: each interpreter has its own thread count."""
    del count
    yield


def _opened(content: bytes, example: Tensor, threads: int) -> tuple[Any, bool]:
    """An interpreter of any model for images shaped as `example`, and whether it takes them as (b, h, w, c)."""
    if not content:
        raise ValueError("it is empty")
    opened = _interpreter(content, threads)
    inputs, outputs = opened.get_input_details(), opened.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each")
    shape = tuple(inputs[0]["shape"].tolist())
    if shape not in (tuple(nhwc(example).shape), tuple(example.shape)):
        raise ValueError(f"its input has the shape {shape}, expected {tuple(nhwc(example).shape)}")
    channels_last = shape == tuple(nhwc(example).shape)
    feed(opened, array(nhwc(example) if channels_last else example))
    return opened, channels_last


def _run_of(opened: Any, channels_last: bool) -> Callable[[], NDArray[np.float32]]:
    """Runs any model, whose tensors may move in memory; the output is a copy."""
    index = opened.get_output_details()[0]["index"]

    def run() -> NDArray[np.float32]:
        opened.invoke()
        out: NDArray[np.float32] = opened.get_tensor(index)
        return nchw(out) if channels_last else out

    return run


def array(example: Tensor) -> NDArray[np.float32]:
    """An input as the runtime reads it, without a copy where it is contiguous."""
    array: NDArray[np.float32] = example.detach().contiguous().numpy()
    return array


with silence():  # the first interpreter of a process says that it uses XNNPACK
    prepare(nn.Linear(1, 1), torch.zeros(1, 1), 1)
