"""Inferences to be timed: on a clock of their own, or busy for a given time on the real one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from torch import nn

from mnas.latency.runtimes import get_runtime
from mnas.latency.timing.quiet import Watch
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


class Machine(World):
    """A machine on a clock of its own: the torch runtime's networks take a microsecond for every 20 parameters."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        super().__init__(slowness)
        self.slowed: dict[int, float] = {}
        """By how much networks of a number of parameters are slower than they should be."""
        self.file_ms = 1.0
        """Milliseconds of a model file."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Make it this machine, as far as networks are timed with torch; nothing else works on it."""
        adapter = get_runtime("torch")
        patch.setattr(adapter, "prepare", lambda module, example, threads: self.run(self.network_ms(module)))
        patch.setattr(adapter, "prepare_file", lambda path, example, threads: self.run(self.file_ms))
        patch.setattr(adapter, "timed_ms", self.timer)
        patch.setattr(Watch, "_now", staticmethod(lambda: (0.0, 0.0, 0.0)))

    def network_ms(self, network: nn.Module) -> float:
        params = sum(parameter.numel() for parameter in network.parameters())
        return params / 20e3 * self.slowed.get(params, 1.0)
