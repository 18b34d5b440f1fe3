"""LiteRT with numpy arrays. Needs these two alone: kits copy this file to devices (see kit.py)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.latency.timing.rounds import wall_ms

litert: Any = importlib.import_module("ai_edge_litert")
interpreters: Any = importlib.import_module("ai_edge_litert.interpreter")


def version() -> str:
    return str(litert.__version__)


def interpreter(model: bytes, threads: int) -> Any:
    """An interpreter of a model's content, with its tensors allocated."""
    opened = interpreters.Interpreter(model_content=model, num_threads=threads)
    opened.allocate_tensors()
    return opened


def feed(interpreter: Any, images: NDArray[np.float32]) -> None:
    """Copies `images` into the interpreter's input tensor."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)


def nchw(out: NDArray[np.float32]) -> NDArray[np.float32]:
    """(b, h, w, c) to (b, c, h, w); other shapes unchanged."""
    return out.transpose(0, 3, 1, 2) if out.ndim == 4 else out


class InPlaceInference:
    """Runs a model of fixed shapes, whose tensors do not move; the output is a view of the interpreter's memory.

    (b, c, h, w) for images.
    """

    def __init__(self, interpreter: Any, images: NDArray[np.float32]) -> None:
        self._interpreter = interpreter
        feed(interpreter, images)
        self._input = interpreter.tensor(interpreter.get_input_details()[0]["index"])()
        self._output = nchw(interpreter.tensor(interpreter.get_output_details()[0]["index"])())

    def __call__(self) -> NDArray[np.float32]:
        # not interpreter.invoke, which refuses while somebody holds a view
        self._interpreter._interpreter.Invoke()
        return self._output

    def touch(self) -> None:
        """Reads input and output, which brings them into the processor's cache."""
        self._input.sum()
        self._output.sum()


def timed_ms(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds on the wall clock, with input and output in the processor's cache, as in a network.

    Each interpreter has memory of its own: with cold input and output the sum of layers was 4 to 8 points higher.
    """
    if isinstance(run, InPlaceInference):
        run.touch()
    return wall_ms(run, repeats)


def prepare_content(model: bytes, scratch: NDArray[np.float32], threads: int) -> Callable[[], object]:
    """Runs a model on the beginning of `scratch` (n,), in the shape of the model's input."""
    opened = interpreter(model, threads)
    shape = opened.get_input_details()[0]["shape"]
    return InPlaceInference(opened, scratch[: int(np.prod(shape))].reshape(shape))
