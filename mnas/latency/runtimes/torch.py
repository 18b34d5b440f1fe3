"""PyTorch, eager, float32, on the CPU."""

from __future__ import annotations

import copy
import io
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.errors import BadInput
from mnas.io.heap import steady_heap
from mnas.io.silence import without_export_warnings
from mnas.latency.runtimes.files import naming
from mnas.latency.runtimes.pt2 import check_pickles
from mnas.latency.timing.device import device_name as device_name
from mnas.latency.timing.rounds import wall_ms

name = "torch"
channels_last = True
framed = False
timed_ms = wall_ms
suffix = ".pt2"

# MobileNetV3-Large, 224x224, batch 1, one thread: 12.2 ms channels last against 13.9 ms contiguous
LAYOUT = torch.channels_last


def version() -> str:
    return str(torch.__version__)


def prepare(module: nn.Module, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs a copy of `module` in channels_last; the thread count is global, so call it inside `threads(count)`."""
    del threads
    return _run(copy.deepcopy(module), example)


def prepare_file(path: str | Path, example: Tensor, threads: int) -> Callable[[], Tensor]:
    """Runs the network of an exported model.py or a .pt2 file, once already to check it."""
    del threads
    with naming(path, name):
        run = _run(loaded(path), example)
        run()
    return run


def open_file(path: str | Path, example: Tensor, threads: int) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of the network of an exported model.py or a .pt2 file."""
    return opened_on("cpu", path, example)


def opened_on(device: str, path: str | Path, example: Tensor) -> Callable[[Tensor], NDArray[np.float32]]:
    """Outputs of the network of an exported model.py or a .pt2 file, computed on a device."""
    with naming(path, name):
        network = loaded(path).to(device, memory_format=LAYOUT)  # type: ignore[call-overload]

        def outputs(images: Tensor) -> NDArray[np.float32]:
            with torch.inference_mode():
                return network(in_layout(images.to(device))).cpu().numpy()

        outputs(example)
    return outputs


def artifact(module: nn.Module, example: Tensor) -> bytes:
    """The content of a .pt2 file: `module` exported by torch.export for the shape of `example`."""
    content = io.BytesIO()
    with without_export_warnings():
        torch.export.save(torch.export.export(module, (example,)), content)
    return content.getvalue()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set torch's intra-op thread count to `count` inside the block, with a steady heap."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with steady_heap():
            yield
    finally:
        torch.set_num_threads(before)


def loaded(path: str | Path) -> nn.Module:
    """The network of an exported model.py or of a .pt2 file."""
    path = Path(path)
    if path.suffix not in (".py", suffix):
        raise BadInput(
            f"{path}: PyTorch runs an exported model.py or a {suffix} file; --runtime onnxruntime runs .onnx files"
        )
    if path.suffix == suffix:
        check_pickles(path)
        with without_export_warnings() as causes:
            try:
                return torch.export.load(path).module()
            except RuntimeError as error:
                raise causes[-1] if causes else error from None
    build_model = runpy.run_path(str(path)).get("build_model")
    if build_model is None:
        raise BadInput(f"{path}: it has no build_model(): expected a model.py that mnas exported")
    network: nn.Module = build_model()
    return network


def in_layout(example: Tensor) -> Tensor:
    """Images in channels_last, features as they are."""
    return example.to(memory_format=LAYOUT) if example.dim() == 4 else example


def _run(own: nn.Module, example: Tensor) -> Callable[[], Tensor]:
    own.to(memory_format=LAYOUT)  # type: ignore[call-overload]
    x = in_layout(example)

    def run() -> Tensor:
        with torch.inference_mode():
            out: Tensor = own(x)
            return out

    return run
