"""A process that has imported mnas and forks one that runs the real command for each request: no start costs seconds.

Requests are lines of JSON on stdin: the command's arguments, its folder, its environment and the file that gets its
stderr. Answers on stdout are its process id, then its exit code. Steps of progress are lines of that file too:
`#step TITLE NUMBER`. Intervals and calibrations are short, so that a whole search takes seconds.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from mnas.cli.app import main
from mnas.estimators import weight_sharing
from mnas.export import folder
from mnas.latency import machine, measure
from mnas.latency.table import build, cache, calibrate
from mnas.latency.timing import sections
from mnas.monitor.console import Progress
from mnas.pipeline import classification, running_race, search
from mnas.report import page
from mnas.space import zoo
from mnas.training import full, speed, supernet

PRELOADED = (
    "mnas.api", "mnas.samplers.predictor", "alembic.command", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "onnx.reference", "onnxruntime", "optuna.storages", "rich.progress", "scipy.stats", "sqlalchemy.dialects.sqlite",
    "tensorboard.compat.tensorflow_stub", "torch._dynamo", "torch.utils.tensorboard",
)  # fmt: skip
"""What a search imports when it first needs it."""
INTERVAL = 3
"""Steps of a supernet's training between two checkpoints."""


def shorten() -> None:
    """Make whatever takes long short: the same steps, fewer of them, and kept after each."""
    measure.ANCHORS = tuple(zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75))
    calibrate.FITTED, calibrate.HELD_OUT, calibrate.ROUNDS, cache.INEXACT = 12, 6, 10, math.inf
    sections.GROUP, build.ROUNDS, build.SAVE_EVERY_S = 2, 12, 0.0
    machine._patience.left_s = 0.0
    speed.MEASURED_S, search.NEEDED_BYTES = 0.1, 0
    running_race.TIES_COST = math.inf  # what takes part in a race to its end does not hang on the time it took
    supernet.INTERVAL, supernet.CHECKPOINT_S, full.SAVE_S = INTERVAL, 0.0, 0.0
    weight_sharing.EVALUATIONS = 2


def mark_steps() -> None:
    """Write each step of progress, and the beginning of export and report, to stderr."""
    update, write_model, write_report = Progress.update, folder.write_model, page.write_report

    def marked(self: Progress, completed: float, *args: Any, **options: Any) -> None:
        mark(f"{self._title} {completed:g}")
        update(self, completed, *args, **options)

    def exporting(*args: Any, **options: Any) -> None:
        mark("export 0")
        write_model(*args, **options)

    def reporting(*args: Any, **options: Any) -> Path:
        mark("report 0")
        return write_report(*args, **options)

    Progress.update = marked  # type: ignore[method-assign]
    assert classification.write_model is write_model  # where a winner's files are written from
    classification.write_model = exporting
    page.write_report = reporting


def mark(text: str) -> None:
    os.write(2, f"#step {text}\n".encode())


def obey_permissions() -> None:
    """Let even root write only where permissions allow it: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        for kind in range(2):  # effective and permitted
            sets[kind] &= ~0b110 & 0xFFFFFFFF
        libc.capset(header, sets)


def run(request: dict[str, Any]) -> None:
    """Become the command."""
    obey_permissions()
    os.setpgid(0, 0)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream, target in ((0, nowhere), (1, nowhere), (2, log)):
        os.dup2(target, stream)
    sys.argv = ["mnas", *request["command"]]
    try:
        main()
    except SystemExit as ended:
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)  # threads of libraries do not survive a fork


def serve() -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            run(request)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in PRELOADED:
        importlib.import_module(name)
    shorten()
    mark_steps()
    serve()
