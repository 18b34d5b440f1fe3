"""A first signal waits for a step's end, a second one for nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

SCRIPT = """
    import sys, time
    from mnas.io import interrupt
    interrupt.GRACE_S = int(sys.argv[1])
    interrupt.listen(lambda: print("left", flush=True))
    try:
        with interrupt.finishing_steps():
            print("a step", flush=True)
            end = time.monotonic() + float(sys.argv[2])
            while time.monotonic() < end:
                time.sleep(0.01)
            print("finished", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def said(grace_s: int, step_s: float, *signals: tuple[float, signal.Signals]) -> tuple[int, list[str], float]:
    """Exit code, output and seconds of a process with one step that gets these signals, each after some seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(grace_s), str(step_s)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "a step\n"
    began = time.monotonic()
    for after_s, number in signals:
        time.sleep(after_s)
        process.send_signal(number)
    out = process.communicate(timeout=60)[0]
    return process.returncode, out.split(), time.monotonic() - began


def test_the_step_is_finished() -> None:
    assert said(60, 1.0, (0, signal.SIGTERM), (0, signal.SIGINT))[:2] == (0, ["finished", "interrupted"])


def test_a_second_signal_ends_it_at_once() -> None:
    code, out, seconds = said(60, 50, (0, signal.SIGINT), (0.8, signal.SIGINT))
    assert (code, out) == (130, ["left"])
    assert seconds < 25


def test_a_long_step_is_not_waited_for() -> None:
    code, out, seconds = said(1, 50, (0, signal.SIGTERM))
    assert (code, out) == (0, ["interrupted"])
    assert seconds < 25
