"""A run's supernet: trained once, then the source of candidates' accuracies and of the winner's first weights."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.splits import limited
from mnas.errors import BadInput
from mnas.estimators.supernet import CALIBRATION_IMAGES, SupernetEstimator
from mnas.io.files import write_atomic
from mnas.monitor.console import progress
from mnas.monitor.tensorboard import TensorBoard
from mnas.nn.network import Network
from mnas.nn.pretrained import start_from
from mnas.nn.supernet import Supernet
from mnas.run import Run
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.distributed import ALONE, Peers
from mnas.training.loop import recalibrate
from mnas.training.recipe import flips
from mnas.training.supernet import Interval, SupernetTraining, largest_and_smallest
from mnas.training.task import Task

log = logging.getLogger("mnas")

LOOKS = 10
"""Times that subnets are judged while the supernet trains, for the curves."""
LOOK_VAL_IMAGES, LOOK_TRAIN_IMAGES = 1000, 256
"""Images that they are judged on, and that their statistics are from: a look should cost little of the training."""
EPOCHS, RATE = 0.3, 0.25
"""Shares of the recipe's epochs and learning rate for what inherits its weights; the teacher costs as much again."""


class WeightSharing:
    """The supernet of one run, and what is asked of it."""

    def __init__(
        self, run: Run, space: SearchSpace, config: RunConfig, task: Task, *, device: torch.device,
        peers: Peers = ALONE,
    ):  # fmt: skip
        self._run, self._space, self._config, self._data = run, space, config, task.data
        self._size_of, self._device, self._peers = task.size_of, device, peers
        self._teachers: dict[int, Network] = {}
        torch.manual_seed(config.seed)
        self.supernet = Supernet(space, task.data.num_classes)
        self._trained, self._begun = run.checkpoints / "supernet.safetensors", run.checkpoints / "supernet.pt"
        if config.init is not None and not (self.trained or self._begun.exists()):
            arch = start_from(self.supernet, Path(config.init))
            log.info("supernet: begins with the weights of %s, as architecture %s", config.init, arch.id)
        self.supernet.to(device)

    # --- training

    @property
    def trained(self) -> bool:
        """Whether an earlier process of the run trained the supernet."""
        return self._trained.exists()

    def train(
        self, recipe: SupernetRecipe, board: TensorBoard | None = None, each: Callable[[], None] = lambda: None
    ) -> None:
        """Train the supernet, or go on where an earlier process of the run stopped; `each` is called now and then."""
        if self.trained:
            self._load(self._trained)
            log.info("supernet: trained before")
            return
        training = SupernetTraining(
            self.supernet, self._data.train, recipe, size_of=self._size_of, flip=flips(recipe, self._data.flip),
            device=self._device, seed=self._config.seed, checkpoint=self._begun, peers=self._peers,
        )  # fmt: skip
        look = 0
        with progress("supernet", training.steps) as shown:
            for interval in training.run(lambda step: shown.update(step, training.steps)):
                figures = _figures(interval)
                if board is not None and interval.step * LOOKS >= (look + 1) * interval.steps:
                    look = interval.step * LOOKS // interval.steps
                    figures |= self._judged(training.averaged)
                losses = ", ".join(f"{name} {loss:.2f}" for name, loss in interval.losses.items())
                shown.update(interval.step, interval.steps, f"loss {losses}, {interval.images_per_s:.0f} images/s")
                if board is not None:
                    board.supernet(interval.step, figures)
                each()
        if self._peers.leads:
            write_atomic(self._trained, safetensors.torch.save(
                {name: tensor.cpu().contiguous() for name, tensor in self.supernet.state_dict().items()}
            ))  # fmt: skip
            self._begun.unlink(missing_ok=True)

    def _judged(self, supernet: Supernet) -> dict[str, float]:
        """Accuracy with inherited weights of the largest, the smallest, the reference and two random networks."""
        train, val = limited(self._data.train, LOOK_TRAIN_IMAGES, 0), limited(self._data.val, LOOK_VAL_IMAGES, 0)
        part = replace(self._data, train=train, val=val)
        judge = SupernetEstimator(supernet, part, None, size_of=self._size_of, device=self._device, seed=0)
        largest, smallest = largest_and_smallest(self._space)
        reference = zoo.get(self._space.reference, resolution=max(self._space.resolutions))
        rng = random.Random(0)
        seen = {"largest": largest, "smallest": smallest, "reference": reference}
        seen |= {f"random{i}": self._space.sample(rng) for i in (1, 2)}
        return {f"accuracy_{name}": judge.inherited(arch) for name, arch in seen.items() if arch in self._space}

    def _load(self, path: Path) -> None:
        try:
            self.supernet.load_state_dict(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"{path}: not this run's supernet ({reason}); delete it to train it anew") from None

    # --- what is asked of it

    def estimator(self, finetune: Recipe | None, select: bool, again: int = 0) -> SupernetEstimator:
        """Candidates' accuracies; those of a training on that is done `again` are independent of the first."""
        return SupernetEstimator(
            self.supernet, self._data, finetune, size_of=self._size_of, device=self._device,
            seed=self._config.seed + again, select=select,
        )  # fmt: skip

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of a winner or a baseline that begins with inherited weights."""
        epochs = max(1, round(EPOCHS * recipe.epochs))
        return recipe.model_copy(update={"epochs": epochs, "lr": RATE * recipe.lr})

    def start(self, arch: Architecture) -> tuple[Network, Network]:
        """What a full training begins from, and its teacher."""
        return self.inherited(arch), self.teacher(arch.resolution)

    def inherited(self, arch: Architecture) -> Network:
        """A network with the supernet's weights; BadInput where it is not in the space."""
        return self._calibrated(arch)

    def teacher(self, resolution: int) -> Network:
        """The space's largest network at a resolution, in eval mode, whose outputs others learn."""
        if resolution not in self._teachers:
            space = self._space.with_resolutions((resolution,))
            self._teachers[resolution] = self._calibrated(largest_and_smallest(space)[0]).eval()
        return self._teachers[resolution]

    def _calibrated(self, arch: Architecture) -> Network:
        network = self.supernet.extract(arch)
        recalibrate(
            network, self._data.train, images=CALIBRATION_IMAGES, size=self._size_of(arch), device=self._device,
        )  # fmt: skip
        return network




def _figures(interval: Interval) -> dict[str, float]:
    figures = {f"loss_{name}": loss for name, loss in interval.losses.items()}
    return figures | {
        "lr": interval.lr, "images_per_s": interval.images_per_s, "collapsed": float(bool(interval.collapsed))
    }  # fmt: skip
