"""Notices a supernet's training that broke: its loss is no number, absurd, or back where most is forgotten."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

FORGOTTEN = 0.5
"""Collapsed: so much of the way back from the lowest loss to that of guessing."""
LEARNED = 0.1
"""Before so much of the way down there is nothing to forget."""
HOPELESS = 3
"""Then a loss of so many times that of guessing is a collapse."""
STRIKES = 3
SLOWER = 0.5


@dataclass
class Guard:
    """Judges the largest subnet's mean loss of each interval against that of guessing (ln of the classes)."""

    guessing: float
    lowest: float = math.inf
    strikes: int = 0

    @property
    def lr_factor(self) -> float:
        """What is left of the learning rate after the strikes so far."""
        return SLOWER**self.strikes

    def holds(self, loss: float) -> bool:
        """Whether training may go on from here; False is a strike."""
        learned = self.guessing - self.lowest
        knows = learned > LEARNED * self.guessing
        highest = self.lowest + FORGOTTEN * learned if knows else HOPELESS * self.guessing
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
