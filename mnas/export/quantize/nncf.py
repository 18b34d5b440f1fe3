"""nncf in a process of its own, since its import changes how a process starts others, and its logs.

One process quantises all models: importing nncf takes 3 s, a layer of a latency table 0.5 s.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

from mnas.errors import MissingDependency, MnasError

COMMAND = (sys.executable, "-m", "mnas.export.quantize.nncf_process")


class _Process:
    """A process that has imported nncf, and has what it says on stderr in a file."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
            env={**os.environ, "NNCF_CI": "1"},  # otherwise it reports to its maker what it quantises
        )  # fmt: skip

    def ask(self, folder: Path) -> str | None:
        """Have a folder quantised (see nncf_process.py): what went wrong."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._said.seek(0)
        self._said.truncate()
        try:
            print(folder, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return cast(str | None, json.loads(answer)) if answer else self._last_words()

    def _last_words(self) -> str:
        """Of a process that has ended by itself, such as for a package that nncf lacks."""
        status = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return lines[-1] if lines and status > 0 else f"its process ended with status {status}"

    def end(self) -> None:
        """End it, whatever it does, and wait until it has ended."""
        self._process.kill()
        self._process.communicate()  # also closes its pipes
        self._said.close()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None


_running: _Process | None = None
"""Started when it is first needed."""


def quantise(folder: Path) -> None:
    """float.xml of a folder becomes int8.xml, with ranges from images.npy; layers named in kept.json stay in float32.

    Raises MissingDependency without nncf, MnasError where it fails.
    """
    global _running
    if importlib.util.find_spec("nncf") is None:
        raise MissingDependency("int8 for openvino needs a package: pip install nncf")
    _running = _running or _Process()
    try:
        wrong = _running.ask(folder)
    except BaseException:  # interrupted: its answer would be taken for that of the next question
        end()
        raise
    if _running.has_ended:
        end()
    if wrong is not None:
        raise MnasError(f"nncf cannot quantise the network: {wrong}")


@atexit.register
def end() -> None:
    """End the process, if it runs."""
    global _running
    if _running is not None:
        ended, _running = _running, None
        ended.end()
