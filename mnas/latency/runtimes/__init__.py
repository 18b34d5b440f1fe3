"""Runtimes, which execute networks: one small adapter module each, imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from mnas.errors import BadInput, nearest
from mnas.space.dense import DenseHead, Outputs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

_NAMES = (
    "cuda", "cuda_graph", "executorch", "executorch_int8", "litert", "litert_int8", "onnxruntime", "onnxruntime_int8",
    "opencv", "openvino", "openvino_int8", "torch", "torch_compile",
)  # fmt: skip
_RUN_HEADS: dict[str, tuple[str, ...]] = {
    "lraspp": ("cuda", "cuda_graph", "onnxruntime", "opencv", "openvino", "torch", "torch_compile"),
    "deeplabv3": ("cuda", "cuda_graph", "onnxruntime", "openvino", "torch", "torch_compile"),
    "ssdlite": ("cuda", "cuda_graph", "onnxruntime", "opencv", "openvino", "torch", "torch_compile"),
}  # fmt: skip


USUAL_RUNTIMES = {
    ".onnx": "onnxruntime", ".tflite": "litert", ".pte": "executorch", ".xml": "openvino", ".pt2": "torch",
    ".py": "torch",
}  # fmt: skip
"""What runs a model file, by its suffix."""
INT8 = "_int8"
Classifier = Callable[["torch.Tensor"], "NDArray[np.float32]"]
"""Images (b, c, h, w) to outputs (b, n)."""


class Runtime(Protocol):
    """The functions of an adapter module; a prepared callable runs one inference and returns the output.

    Those whose name ends in _int8 quantise what they prepare; the others compute in float32.
    tests/latency/runtimes/test_runtimes.py is the contract that every adapter passes.
    """

    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str:
        """The suffix of the runtime's model files, such as .onnx."""

    @property
    def channels_last(self) -> bool:
        """Whether `prepare` reads channels_last images without a copy, rather than contiguous ones."""

    @property
    def framed(self) -> bool:
        """Whether the layers of a table are timed in a frame (see timing/frame.py)."""

    def device_name(self) -> str:
        """The device that the runtime executes on, such as 'AMD EPYC 7B13, 2 cores' or a GPU's name."""

    def version(self) -> str:
        """The runtime's version, such as 2.13.0+cpu."""

    def prepare(self, module: nn.Module, example: torch.Tensor, threads: int) -> Callable[[], object]:
        """A callable that runs `module` (a layer or a network in eval mode, not changed) on `example`."""

    def prepare_file(self, path: str | Path, example: torch.Tensor, threads: int) -> Callable[[], object]:
        """A callable that runs a model file on `example`; BadInput where the runtime cannot read the file."""

    def open_file(self, path: str | Path, example: torch.Tensor, threads: int) -> Classifier:
        """A function from images shaped as `example` to the outputs of a model file, to judge it rather than time it.

        Call it inside `threads(count)`; BadInput where the runtime cannot read the file.
        """

    def artifact(self, module: nn.Module, example: torch.Tensor) -> bytes:
        """The content of a file that `prepare_file` runs, made from `module`; BadInput where it would be two files."""

    def timed_ms(self, run: Callable[[], object], repeats: int) -> float:
        """Milliseconds of one inference, the mean of `repeats` in a row, on the device's clock."""

    def threads(self, count: int) -> AbstractContextManager[None]:
        """Set the runtime's global thread count to `count` inside the block, and restore it afterwards."""


def runtime_names() -> list[str]:
    """The names of all runtimes, whether installed or not."""
    return list(_NAMES)


def dtype_of(name: str) -> Literal["float32", "int8"]:
    """What the runtime called `name` computes in."""
    return "int8" if name.endswith(INT8) else "float32"


def check_runs(name: str, outputs: Outputs) -> None:
    """BadInput where the runtime called `name` cannot run networks under this head."""
    if isinstance(outputs, DenseHead) and name in _NAMES and name not in _RUN_HEADS[outputs.name]:
        raise BadInput(
            f"--runtime {name}: does not run networks under {outputs.name} here; expected "
            f"{', '.join(_RUN_HEADS[outputs.name])}"
        )


def get_runtime(name: str) -> Runtime:
    """The adapter called `name`; MissingDependency with the pip command where the runtime is not installed."""
    if name not in _NAMES:
        raise BadInput(f"unknown runtime '{name}'{nearest(name, _NAMES)}")
    return cast(Runtime, importlib.import_module(f"{__name__}.{name}"))
