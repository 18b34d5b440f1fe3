"""The supernet of a run: trained once, it gives candidates' accuracies and the winner's initial weights."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.data.division import read_division
from mnas.errors import BadInput
from mnas.estimators.supernet import STATISTICS_IMAGES, SupernetEstimator
from mnas.io.checksum import remove_kept, write_with_sum
from mnas.monitor.console import progress
from mnas.monitor.tensorboard import TensorBoard
from mnas.nn.starting import origin_in, start_from
from mnas.nn.supernet import Supernet, has_kernel_transforms
from mnas.nn.weights import is_whole, read_safetensors
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.training.distributed import SINGLE, ProcessGroup
from mnas.training.supernet import Interval, SupernetTraining, largest_and_smallest, read_checkpoint
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

EVALUATIONS = 10
"""How often some subnets are evaluated while the supernet trains, for the curves."""
EVALUATION_VAL_IMAGES, EVALUATION_TRAIN_IMAGES = 1000, 256
"""Images for their accuracy and for their statistics: an evaluation should cost little of the training's time."""


class WeightSharing:
    """The supernet of one run: its training, its files, and the networks that inherit its weights."""

    def __init__(
        self, run: Run, config: RunConfig, space: SearchSpace, trainer: Trainer, group: ProcessGroup = SINGLE
    ):
        self._config, self._space, self._trainer, self._group = config, space, trainer, group
        torch.manual_seed(config.seed)
        self._weights = run.supernet_weights
        self._checkpoint = run.checkpoints / "supernet.pt"
        self.trained = is_whole(self._weights)
        """Whether an earlier process of the run finished the supernet's training."""
        saved = self._saved_names()
        begun, origin = saved is not None, next(iter(trainer.origins), None)
        given = read_safetensors(run.given_supernet) if run.given_supernet.exists() and not begun else {}
        transforms = (origin is not None and origin.supernet is not None) or has_kernel_transforms(given)
        transforms = transforms if saved is None else has_kernel_transforms(saved)
        self.supernet = trainer.task.supernet(space, transforms)
        if given:
            division = read_division(run.given_supernet.parent)
            self._take(given, run.given_supernet, None if division is None else division.classes)
        elif origin is not None and not begun:
            arch = start_from(self.supernet, origin)
            log.info("supernet: starting from the weights of %s, as architecture %s", origin.name, arch.id)
        # in the layout in which it is trained: a loaded one computes what the trained one did, to the last bit
        self.supernet.to(trainer.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _take(self, given: dict[str, Tensor], path: Path, classes: tuple[str, ...] | None) -> None:
        """Begin with the weights of another run's supernet; its classifier keeps the outputs of the same `classes`."""
        own, names = self.supernet.state_dict(), self._trainer.data.classes
        outputs = [name for name in own if name.startswith(f"head.{len(self.supernet.head) - 1}.")]
        if classes is None:  # of images that were given as an object
            classes = names if all(given[name].shape == own[name].shape for name in outputs) else ()
        if classes != names:
            kept = {names.index(name): classes.index(name) for name in names if name in classes}
            for name in outputs:
                own[name][list(kept)] = given[name][list(kept.values())]
            given = given | {name: own[name] for name in outputs}
            log.info("supernet: the outputs for %d of %d classes begin fresh", len(names) - len(kept), len(names))
        try:
            self.supernet.load_state_dict(given)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()
            raise BadInput(f"{path}: of another space than '{self._space.name}' ({reason})") from None

    # --- training

    def train(
        self, recipe: SupernetRecipe, board: TensorBoard | None = None, after_interval: Callable[[], None] | None = None
    ) -> None:
        """Train the supernet, continue an interrupted training, or load a finished one."""
        if self.trained:
            self._load(self._weights)
            log.info("supernet: loaded the trained weights")
            return
        training = SupernetTraining(
            self.supernet, recipe, self._trainer, group=self._group, checkpoint=self._checkpoint
        )
        evaluation = 0
        with progress("supernet", training.steps) as shown:
            for interval in training.run(lambda step: shown.update(step, training.steps)):
                figures = _figures(interval)
                if board is not None and interval.step * EVALUATIONS >= (evaluation + 1) * interval.steps:
                    evaluation = interval.step * EVALUATIONS // interval.steps
                    figures |= self._accuracies(training.averaged)
                losses = ", ".join(f"{name} {loss:.2f}" for name, loss in interval.losses.items())
                shown.update(interval.step, interval.steps, f"loss {losses}, {interval.images_per_s:.0f} images/s")
                if board is not None:
                    board.supernet(interval.step, figures)
                if after_interval is not None:
                    after_interval()
        if self._group.is_main:
            state = {name: tensor.cpu().contiguous() for name, tensor in self.supernet.state_dict().items()}
            write_with_sum(self._weights, safetensors.torch.save(state))
            remove_kept(self._checkpoint)

    def accuracies(self) -> dict[str, float]:
        """Accuracies of the trained supernet's networks: see `_accuracies`."""
        return self._accuracies(self.supernet)

    def _accuracies(self, supernet: Supernet) -> dict[str, float]:
        """Accuracy with inherited weights of the largest, the smallest, the reference and two random networks."""
        trainer = self._trainer.limited(train=EVALUATION_TRAIN_IMAGES, val=EVALUATION_VAL_IMAGES, seed=0)
        estimator = SupernetEstimator(supernet, trainer, None)
        largest, smallest = largest_and_smallest(self._space)
        _, reference = self._space.rival(self._space.reference)
        rng = random.Random(0)
        subnets = {"largest": largest, "smallest": smallest, "reference": reference}
        subnets |= {f"random{i}": self._space.sample(rng) for i in (1, 2)}
        figure = self._trainer.task.figure
        return {
            f"{figure}_{name}": estimator.inherited(arch) for name, arch in subnets.items() if arch in self._space
        }

    def _saved_names(self) -> Iterable[str] | None:
        """The names of the tensors that an earlier process saved; None where there is nothing that is whole."""
        if self.trained:
            return read_safetensors(self._weights).keys()
        saved = read_checkpoint(self._checkpoint)
        return None if saved is None else saved.get("weights", ())

    def _load(self, path: Path) -> None:
        try:
            self.supernet.load_state_dict(read_safetensors(path))
        except (BadInput, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"{path}: not this run's supernet ({reason}); delete it to train it again") from None

    # --- what inherits its weights

    def estimator(self, finetune: Recipe | None, select: bool = False) -> SupernetEstimator:
        """Estimates candidates' accuracies."""
        return SupernetEstimator(self.supernet, self._trainer, finetune, select=select)

    def inherited(self, arch: Architecture) -> nn.Module:
        """A network with the supernet's weights and statistics of its own.

        One outside the space gets those of the space's reference, of which it may be a narrower version. BadInput if
        it has another design.
        """
        if arch in self._space:
            network: nn.Module = self.supernet.extract(arch)
        else:
            network = self._outside(arch).to(self._trainer.device)
        self._trainer.finish(network, arch, STATISTICS_IMAGES)
        return network

    def _outside(self, arch: Architecture) -> nn.Module:
        origin = origin_in(self.supernet)
        if not origin.fits(arch):
            raise BadInput(f"architecture {arch.id} has another design than the networks of space '{self._space.name}'")
        torch.manual_seed(self._trainer.seed)
        return self._trainer.task.build(arch, 0.0, origin)


def _figures(interval: Interval) -> dict[str, float]:
    figures = {f"loss_{name}": loss for name, loss in interval.losses.items()}
    return figures | {
        "lr": interval.lr, "images_per_s": interval.images_per_s, "collapsed": float(bool(interval.collapsed))
    }  # fmt: skip
