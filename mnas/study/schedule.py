"""How long a search goes on, and how many networks it evaluates at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mnas.training.distributed import SINGLE, ProcessGroup


@dataclass(frozen=True)
class Schedule:
    """The number of evaluations, the deadline, and who makes them."""

    trials: int | None = None
    """Evaluations in all; None for no limit."""
    deadline: float | None = None
    """Seconds on time.monotonic(); None for no limit."""
    at_once: int = 1
    """Networks proposed together, before the sampler learns the result of any."""
    group: ProcessGroup = SINGLE
    """The processes that share their evaluations."""

    @property
    def is_late(self) -> bool:
        """Whether the deadline is past."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def batch(self, evaluated: int) -> int:
        """How many networks to propose next, after `evaluated` evaluations; 0 at the end."""
        if self.is_late:
            return 0
        return self.at_once if self.trials is None else max(0, min(self.at_once, self.trials - evaluated))

    def fraction(self, evaluated: int, began: float) -> float:
        """How much of the search is over (0..1), by evaluations or by time since `began`, whichever is more."""
        by_trials = evaluated / self.trials if self.trials else 0.0
        if self.deadline is None:
            return min(1.0, by_trials)
        by_time = (time.monotonic() - began) / max(1e-9, self.deadline - began)
        return min(1.0, max(by_trials, by_time))
