"""What executes a network on this device: one small adapter module a runtime, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from mnas.errors import BadInput, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

_NAMES = ("cuda", "cuda_graph", "executorch", "litert", "onnxruntime", "openvino", "torch", "torch_compile")


class Runtime(Protocol):
    """What an adapter module offers. Float32; a prepared callable runs once and returns the output.

    tests/test_runtimes.py holds every adapter to the same contract.
    """

    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str:
        """Of the runtime's own model files, such as .onnx."""

    @property
    def channels_last(self) -> bool:
        """Whether `prepare` reads images in channels_last where they lie, without a copy; contiguous ones otherwise."""

    @property
    def framed(self) -> bool:
        """Whether the layers of a table are timed in a frame (see latency/frame.py)."""

    def device_name(self) -> str:
        """What the runtime executes on, such as 'AMD EPYC 7B13, 2 cores' or a GPU's name."""

    def version(self) -> str:
        """The runtime's own version, such as 2.13.0+cpu."""

    def prepare(self, module: nn.Module, example: torch.Tensor, threads: int) -> Callable[[], object]:
        """Runs `module` (a layer or a network in eval mode, left as it is) on `example`."""

    def prepare_file(self, path: str | Path, example: torch.Tensor, threads: int) -> Callable[[], object]:
        """Runs a model file on `example`; BadInput where the runtime has no files or cannot read this one."""

    def artifact(self, module: nn.Module, example: torch.Tensor) -> bytes:
        """`module` as the content of a file that `prepare_file` runs."""

    def timed_ms(self, run: Callable[[], object], repeats: int) -> float:
        """Milliseconds of one run, the mean of `repeats` in a row, on the clock that suits the device."""

    def threads(self, count: int) -> AbstractContextManager[None]:
        """Holds the runtime's global thread count at `count`, and puts back what was before."""


def runtime_names() -> list[str]:
    """The known runtimes, whether installed or not."""
    return list(_NAMES)


def get_runtime(name: str) -> Runtime:
    """The adapter called `name`; MissingDependency, with the pip command, where it is not installed."""
    if name not in _NAMES:
        raise BadInput(f"unknown runtime '{name}'{nearest(name, _NAMES)}")
    return cast(Runtime, importlib.import_module(f"{__name__}.{name}"))
