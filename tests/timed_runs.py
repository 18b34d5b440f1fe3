"""Inferences to be timed: on a clock of their own, or busy for a given time on the real one."""

from __future__ import annotations

import time
from collections.abc import Callable

from mnas.latency.timing.rounds import Inference


class World:
    """Inferences on a clock of their own, on a machine whose slowness changes with that clock."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now, self.slowness = 0.0, slowness

    def run(self, ms: float, noise: Callable[[], float] = lambda: 1.0) -> Inference:
        def run() -> None:
            self.now += ms * self.slowness(self.now) * noise()

        return run

    def timer(self, run: Inference, repeats: int) -> float:
        start = self.now
        for _ in range(repeats):
            run()
        return (self.now - start) / repeats


def busy(ms: Callable[[], float]) -> Inference:
    """An inference that keeps the processor for `ms` milliseconds of the real clock."""

    def run() -> None:
        end = time.perf_counter_ns() + int(ms() * 1e6)
        while time.perf_counter_ns() < end:
            pass

    return run
