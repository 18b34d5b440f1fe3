"""The command `mnas` as a process whose progress can be watched, and which can be killed at any step."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

Watch = Callable[[str, float], Sequence[signal.Signals]]
"""Gets a command's stderr and the seconds since its start, and answers with signals to send to it."""
LOOK_S = 0.003
LIMIT_S = 180.0
"""Seconds after which a command hangs."""


@dataclass
class Ended:
    """A command that is over."""

    code: int
    """As subprocess gives it: negative for a signal."""
    log: str
    """Its stderr, with `#step TITLE NUMBER` among the lines."""
    gone_s: float = 0.0
    """Seconds from the signal to the end."""
    began: Mapping[str, float] = field(default_factory=dict)
    """Seconds after which each title of progress came first."""

    def steps(self, title: str) -> list[float]:
        """The numbers of the steps under this title."""
        return [float(number) for number in re.findall(rf"^#step {re.escape(title)} (\S+)$", self.log, re.M)]

    @property
    def titles(self) -> list[str]:
        """The titles of progress, in the order of their first steps."""
        return list(dict.fromkeys(re.findall(r"^#step (.*) \S+$", self.log, re.M)))

    @property
    def lines(self) -> list[str]:
        """What a person sees."""
        return [line for line in self.log.splitlines() if not line.startswith("#step ")]


class Zygote:
    """Starts commands, one at a time; see zygote.py."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None):
        self.folder, self._environment = folder, dict(environment or {})
        self.pid = 0
        """Of the command that runs."""
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, bufsize=0, env=os.environ | {
                "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            },
        )  # fmt: skip

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(LIMIT_S)
        self._process.stdout.close()

    def run(
        self, command: Sequence[str], cache: Path, watch: Watch = lambda text, seconds: (), limit_s: float = LIMIT_S
    ) -> Ended:
        """Run a command to its end, or until the first signals that `watch` answers with end it.

        SIGINT goes to the command's whole group, as from a terminal.
        """
        log = self.folder / "stderr.txt"
        log.unlink(missing_ok=True)
        request = {
            "command": list(command), "folder": str(self.folder), "log": str(log),
            "environment": {**self._environment, "XDG_CACHE_HOME": str(cache)},
        }  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write((json.dumps(request) + "\n").encode())
        self._process.stdin.flush()
        process = self.pid = int(self._process.stdout.readline())
        start, sent, began = time.monotonic(), 0.0, dict[str, float]()
        while not select.select([self._process.stdout], [], [], LOOK_S)[0]:
            now = time.monotonic()
            if now - start > limit_s:
                os.kill(process, signal.SIGKILL)
                raise TimeoutError(f"{' '.join(command)} takes longer than {limit_s:g} s:\n{log.read_text()[-2000:]}")
            if sent or not log.exists():
                continue
            text = log.read_text(errors="replace")
            for title in dict.fromkeys(re.findall(r"^#step (.*) \S+$", text, re.M)):
                began.setdefault(title, now - start)
            for number in watch(text, now - start):
                sent = sent or time.monotonic()
                (os.killpg if number == signal.SIGINT else os.kill)(process, number)
        code = int(self._process.stdout.readline())
        gone_s = time.monotonic() - sent if sent else 0.0
        return Ended(code, log.read_text(errors="replace"), gone_s, began)
