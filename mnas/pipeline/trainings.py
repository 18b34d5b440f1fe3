"""The full trainings of a run: those of a race leg by leg, the baselines and other seeds to the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mnas.config import Recipe
from mnas.estimators.weight_sharing import WeightSharing
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.race import Contender
from mnas.training.distributed import ProcessGroup
from mnas.training.faults import cause_of
from mnas.training.full import FullTraining, Standing, Trained, Weights
from mnas.training.loop import Diverged
from mnas.training.recipe import fine_tuning
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")


@dataclass(frozen=True)
class Leg:
    """A part of a contender's training: until this epoch, from where it is."""

    contender: Contender
    recipe: Recipe
    epochs: int
    seed: int


@dataclass(frozen=True)
class Trainings:
    """How one process trains contenders, and where it keeps them."""

    trainer: Trainer
    sharing: WeightSharing | None
    checkpoints: Path
    board: TensorBoard | None = None

    def of(self, leg: Leg) -> FullTraining:
        """The training to which a leg belongs."""
        contender, start = leg.contender, None
        if contender.weights == "inherited":
            assert self.sharing is not None
            start = partial(self.sharing.inherited, contender.architecture)
        trainer = replace(self.trainer, seed=leg.seed)
        name = contender.name if leg.seed == self.trainer.seed else f"{contender.name}, seed {leg.seed}"
        return FullTraining(name, contender.architecture, leg.recipe, trainer, self.checkpoints, start, self.board)

    def run(self, leg: Leg) -> Standing | None:
        """Train a leg; None where the training diverges, or memory is too short for it."""
        try:
            return self.of(leg).advance(leg.epochs)
        except (Diverged, MemoryError, RuntimeError) as error:
            if not (why := cause_of(error)):
                raise
            log.warning("%s: %s", leg.contender.name, why)
            return None


@dataclass(frozen=True)
class SharedTrainings:
    """The trainings of a run, by one recipe, shared among its processes."""

    trainings: Trainings
    recipe: Recipe
    group: ProcessGroup
    after: Callable[[], None] = lambda: None
    """Called after each group of legs."""

    def advance(self, contenders: Sequence[Contender], part: float) -> list[Standing | None]:
        """Train each contender until that part (0..1) of its training; None for one whose training diverges."""
        seed = self.trainings.trainer.seed
        legs = [Leg(one, self.recipe_of(one), one.epochs_at(part), seed) for one in contenders]
        standings = self.group.map(self.trainings.run, legs)
        self.after()
        return standings

    def trained(self, contender: Contender, repeat: int = 0) -> Trained:
        """The network of a contender, trained to the end; each `repeat` with a seed of its own."""
        recipe = self.recipe_of(contender)
        leg = Leg(contender, recipe, recipe.epochs, self.trainings.trainer.seed + repeat)
        trained = self.trainings.of(leg).trained()
        self.after()
        return trained

    def recipe_of(self, contender: Contender) -> Recipe:
        """The recipe with the contender's own number of epochs, and gentler where it starts from trained weights."""
        usual = self.trainings.trainer.task.usual
        return starting_from(contender.weights, self.recipe, usual).model_copy(update={"epochs": contender.epochs})


def starting_from(weights: Weights, recipe: Recipe, usual: Mapping[str, Any]) -> Recipe:
    """`recipe` for a training from such weights; `usual` is that of the task."""
    return fine_tuning(recipe, usual) if weights == "pretrained" else recipe
