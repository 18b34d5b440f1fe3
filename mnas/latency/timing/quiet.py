"""Threads pinned to cores, and disturbances by other processes detected. Needs Python 3.8 alone (see rounds)."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

BUSY_CORES = 0.3
"""Cores that other processes may use before the machine is called busy."""
SLOWED = 1.08
"""Ratio of the last quarter of the rounds to the first at which a change of speed is reported."""


def usable_cores() -> int:
    """Number of cores that this process may use: fewer than the machine has in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Pin this thread, and those it starts, to `threads` cores: the fastest, and of these the idlest.

    Two measurements of the same networks differed by 1.1% without pinning, by 0.4% with it (eager torch, one thread).
    A core's second hyperthread is used only where no other core is left. Does nothing on systems without
    sched_setaffinity.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    idle = _idle_ticks()
    time.sleep(0.05)
    idle = {core: ticks - idle.get(core, 0) for core, ticks in _idle_ticks().items()}
    best = sorted(allowed, key=lambda core: (-_top_clock(core), -idle.get(core, 0), -core))
    os.sched_setaffinity(0, set(_second_threads_last(best)[:threads]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Watch:
    """Records what other processes do from its creation on."""

    def __init__(self) -> None:
        self._began = self._now()

    def others(self) -> tuple[float, float]:
        """The cores that other processes used since then, on average, and the seconds."""
        wall, busy, own = (now - then for now, then in zip(self._now(), self._began))  # noqa: B905
        return (busy - own) / max(wall, 1e-9), wall

    def disturbed(self, anchor: Sequence[float]) -> str:
        """Why measurements since then may be wrong, or empty; `anchor` is one network's times in order."""
        others, wall = self.others()
        reasons = []
        if wall > 0.5 and others > BUSY_CORES:
            reasons.append(f"busy machine: other processes used {others:.1f} cores")
        quarter = len(anchor) // 4
        if quarter >= 3:
            slower = statistics.median(anchor[-quarter:]) / statistics.median(anchor[:quarter])
            if not 1 / SLOWED < slower < SLOWED:
                word = "slower" if slower > 1 else "faster"
                change = f"{100 * abs(slower - 1):.0f}% {word}"
                reasons.append(f"the machine became {change} during the measurement (throttling?)")
        return "; ".join(reasons)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: wall clock; CPU time of all processes, a virtual machine's stolen time included; own CPU time."""
        return time.perf_counter(), _busy_s(), sum(os.times()[:2])


def _busy_s() -> float:
    ticks = _stat("cpu ")
    if not ticks:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = (*ticks, *[0] * 8)[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _idle_ticks() -> dict[int, int]:
    """Idle time of each core since boot, in clock ticks."""
    idle = {}
    for core in range(os.cpu_count() or 1):
        ticks = _stat(f"cpu{core} ")
        if ticks:
            idle[core] = ticks[3]
    return idle


def _stat(start: str) -> list[int]:
    """The numbers on the line of /proc/stat that begins with `start`; empty where it cannot be read."""
    try:
        with open("/proc/stat") as file:
            line = next(line for line in file if line.startswith(start))
    except (OSError, StopIteration):
        return []
    return [int(word) for word in line.split()[1:]]


def _second_threads_last(cores: Sequence[int]) -> list[int]:
    """The same cores in order, with second hyperthreads of earlier cores moved to the end."""
    first: list[int] = []
    second: list[int] = []
    taken: set[int] = set()
    for core in cores:
        (second if core in taken else first).append(core)
        taken |= _siblings(core)
    return first + second


def _siblings(core: int) -> set[int]:
    """The hyperthreads of a core, from a list such as 0,4 or 0-1; the core alone where unknown."""
    siblings = {core}
    try:
        with open(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") as file:
            for part in file.read().split(","):
                low, _, high = part.partition("-")
                siblings.update(range(int(low), int(high or low) + 1))
    except (OSError, ValueError):
        pass
    return siblings


def _top_clock(core: int) -> int:
    """The highest clock rate of a core in kHz; 0 where unknown."""
    try:
        with open(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
