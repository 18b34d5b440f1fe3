"""Detects a collapsed supernet training: its loss is not finite, absurd, or close to that of guessing again."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

FORGOTTEN = 0.5
"""A collapse: the loss rose by this fraction of the way from its minimum to that of guessing."""
LEARNED = 0.1
"""Before the loss has fallen by this fraction of that of guessing, nothing is learned that could be lost."""
ABSURD = 3
"""Until then, a loss of this many times that of guessing is a collapse."""
STRIKES = 3
SLOWER = 0.5


@dataclass
class Guard:
    """Compares the largest subnet's mean loss of each interval with that of guessing (ln of the number of classes)."""

    guessing: float
    lowest: float = math.inf
    strikes: int = 0

    @property
    def lr_factor(self) -> float:
        """The factor on the learning rate after the strikes so far."""
        return SLOWER**self.strikes

    def holds(self, loss: float) -> bool:
        """Whether training may continue from here; False counts as a strike."""
        learned = self.guessing - self.lowest
        has_learned = learned > LEARNED * self.guessing
        highest = self.lowest + FORGOTTEN * learned if has_learned else ABSURD * self.guessing
        if not loss <= highest:  # nor is NaN
            self.strikes += 1
            return False
        self.lowest = min(self.lowest, loss)
        return True

    @property
    def gives_up(self) -> bool:
        return self.strikes > STRIKES

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
