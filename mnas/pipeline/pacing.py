"""How long the contenders of a race train: each for about the same time, and in the end for all that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mnas.config import Recipe
from mnas.pipeline.plan import affordable_epochs, epoch_s, most_epochs
from mnas.pipeline.race import Contender, Placing
from mnas.space.architecture import Architecture
from mnas.training.speed import training_speed
from mnas.training.trainer import Trainer

CERTAIN = 1.5
"""Where so many times the longest training of the largest reference is affordable, no speed needs to be measured."""


@dataclass(frozen=True)
class Pacing:
    """How fast this machine trains for a race, and by which recipe."""

    trainer: Trainer
    recipe: Recipe
    images_per_s: float
    """Of the largest reference."""

    def paced(self, contenders: Sequence[Contender], training_s: float | None) -> list[Contender]:
        """The contenders with as many epochs as each is trained for in `training_s`, up to `most_epochs`.

        None: the epochs of the recipe. So a network that is trained slowly must be worth its time.
        """
        if training_s is None:
            return [replace(one, epochs=self.recipe.epochs) for one in contenders]
        most = most_epochs(self.recipe)
        if training_s >= CERTAIN * most * epoch_s(self.trainer.task.data, self.recipe, self.images_per_s):
            return [replace(one, epochs=most) for one in contenders]
        return [replace(one, epochs=self.epochs(one.architecture, training_s)) for one in contenders]

    def epochs(self, arch: Architecture, training_s: float) -> int:
        """The epochs for which a network is trained in `training_s`; its speed is measured."""
        speed = training_speed(arch, self.recipe, self.trainer)
        return affordable_epochs(self.recipe, self.trainer.task.data, training_s, speed)

    def prolonged(
        self, survivors: Sequence[Placing], left_s: float, *, others: int = 0, processes: int = 1
    ) -> Mapping[str, int]:
        """The epochs of the last ones of a race, by name, with which they use the time that is left.

        Each gets the same share of it, as do `others` that are trained as long after the race. The learning rate
        follows the new number of epochs, so that it still falls to zero at the end. Where the machine became slower,
        at least half of the epochs that a contender still lacks stay.
        """
        turns = -(-len(survivors) // processes)
        epochs = {}
        for placing in survivors:
            assert placing.standing is not None
            planned, done, spent = placing.contender.epochs, placing.standing.epochs, placing.standing.seconds
            whole_s = (left_s + turns * spent) / (turns + others)
            wanted = int(whole_s * done / spent) if spent else planned
            epochs[placing.contender.name] = max(-(-(planned + done) // 2), min(most_epochs(self.recipe), wanted))
        return epochs
