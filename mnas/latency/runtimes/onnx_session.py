"""ONNX Runtime with numpy arrays. Needs these two alone: kits copy this file to devices (see kit.py)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.latency.timing.rounds import wall_ms

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # since 1.29 it reports models and machine to its maker

ort: Any = importlib.import_module("onnxruntime")

timed_ms = wall_ms

# One arena for all sessions: a layer's own session then works in memory that the layer before has just used, as in
# the whole network. With an arena each, the sum of layers came out 7 points higher.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT), None
)


def version() -> str:
    return str(ort.__version__)


def session(model: bytes | str, threads: int) -> Any:
    """A session of a model, given its content or its path."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    # threads of a session that has run would spin on the cores of what is timed next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_of(session: Any, images: NDArray[np.float32]) -> Callable[[], object]:
    """Runs a session of one input, once already to check it, to its first output; `images` are read without a copy."""
    feed = {session.get_inputs()[0].name: images}
    outputs = [output.name for output in session.get_outputs()]
    _run_and_give_back(session, outputs, feed)

    def run() -> object:
        return session.run(outputs, feed)[0]

    return run


def _run_and_give_back(session: Any, outputs: list[str], feed: dict[str, NDArray[np.float32]]) -> None:
    """Runs once and returns the arena's free memory, so that a layer prepared again has its images elsewhere.

    Where a large layer's images lie in memory changes its latency by up to 9%, and an arena that keeps its memory puts
    them in the same place for the life of the process.
    """
    try:
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        session.run(outputs, feed, options)
    except Exception:  # old versions know no such option, 32-bit builds have no arena
        session.run(outputs, feed)


def prepare_content(model: bytes, scratch: NDArray[np.float32], threads: int) -> Callable[[], object]:
    """Runs a model on the beginning of `scratch` (n,), in the shape of the model's input."""
    opened = session(model, threads)
    shape = opened.get_inputs()[0].shape
    return run_of(opened, scratch[: int(np.prod(shape))].reshape(shape))
