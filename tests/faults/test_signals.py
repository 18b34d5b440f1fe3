"""Ctrl-C and SIGTERM: a training's step is finished and kept, and a line says how to go on; twice ends it at once."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from .checks import GONE_S
from .processes import Zygote
from .searches import Search, made_up_table, prepare


def search(folder: Path) -> Search:
    """One whose supernet trains for long."""
    prepare(folder)
    return Search(folder, made_up_table(folder / "table.yaml"), {"supernet.epochs": 2000})


def saved_step(run: Path) -> int:
    """The step of the supernet's checkpoint."""
    step: int = torch.load(run / "checkpoints" / "supernet.pt", weights_only=True)["step"]
    return step


def test_ctrl_c_finishes_the_step_and_keeps_it(tmp_path: Path) -> None:
    """The real command, with its usual intervals: nothing would be due for 20 seconds."""
    run, deadline = tmp_path / "run", time.monotonic() + 120
    with subprocess.Popen(
        [sys.executable, "-m", "mnas", *search(tmp_path).command()], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    ) as process, contextlib.ExitStack() as ended:  # fmt: skip
        ended.callback(process.kill)
        while time.monotonic() < deadline and process.poll() is None:
            if (run / "run.log").exists() and "a supernet is trained for" in (run / "run.log").read_text():
                break
            time.sleep(0.05)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=GONE_S)[1]
    assert process.returncode == 130, stderr
    lines = stderr.splitlines()
    assert lines[-1] == "error: interrupted"
    assert lines[-2].endswith(f"mnas resume {run}")
    assert saved_step(run) > 0
    assert "Traceback" not in stderr


def test_sigterm_and_both_at_once(tmp_path: Path) -> None:
    long = search(tmp_path)

    def at(step: int, *signals: signal.Signals) -> int:
        """The last step that was trained before these signals, sent after that step, ended the command."""

        def watch(text: str, seconds: float) -> Sequence[signal.Signals]:
            return signals if re.search(rf"^#step supernet {step}$", text, re.M) else ()

        ended = zygote.run(long.command(), long.cache, watch)
        assert ended.code == 130, ended.log[-3000:]
        assert ended.gone_s < GONE_S
        assert ended.lines[-1] == "error: interrupted"
        return int(ended.steps("supernet")[-1])

    with Zygote(tmp_path) as zygote:
        assert at(4, signal.SIGTERM) == saved_step(tmp_path / "run") >= 4
        assert at(11, signal.SIGINT, signal.SIGTERM) == saved_step(tmp_path / "run") >= 11, "as torchrun sends them"
