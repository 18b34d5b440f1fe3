"""A full training: continued to any of its epochs, judged there, and kept in a file between processes."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mnas.config import Recipe
from mnas.errors import BadInput
from mnas.io.checksum import read_kept, write_kept
from mnas.io.interrupt import asked, finishing_steps, stop_if_asked
from mnas.io.size import shown
from mnas.monitor.console import Progress, progress
from mnas.monitor.figures import NAMES, count
from mnas.monitor.tensorboard import TensorBoard
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead
from mnas.training.loop import Epoch, copied
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

STATISTICS_IMAGES = 4096
"""Training images from which batch normalisation gets its statistics before the network is judged."""
DRAWN = 6
"""How often, at most, the accuracy is drawn while a network trains."""
DRAWN_IMAGES, DRAWN_STATISTICS_IMAGES = 1000, 512
"""Images for it, and for its statistics."""
SAVE_S = 20.0
"""Least seconds between two savings: about as much as a kill can cost."""

Weights = Literal["scratch", "pretrained", "inherited"]
"""What a training starts from: fresh weights, those of a trained network, or those of the run's supernet."""
Start = Callable[[], nn.Module]
"""Gives the network whose weights a training starts from."""


@dataclass(frozen=True)
class Standing:
    """How far a full training is, and how its averaged weights do on the search-validation split."""

    epochs: int
    """Finished epochs."""
    correct: NDArray[np.bool_]
    """Whether each search-validation image is classified correctly, (n,)."""
    seconds: float
    """Time of the training so far, in all processes."""
    finished: bool = False
    weights: NDArray[np.float64] | None = None
    """Of each image, (n,), where classes count alike (the metric balanced); their mean is 1."""
    value: float | None = None
    """The task's figure (0..1) where it is no mean over images."""
    parts: NDArray[np.float64] | None = None
    """Its pseudo-values by groups of images, (groups,), then."""

    @property
    def accuracy(self) -> float:
        """The task's figure (0..1) on the search-validation split."""
        if self.value is not None:
            return self.value
        return float(np.average(self.correct, weights=self.weights)) if len(self.correct) else 0.0


@dataclass(frozen=True)
class Trained:
    """A fully trained network of any task with its figure on the search-validation split."""

    name: str
    architecture: Architecture
    network: nn.Module
    val_accuracy: float
    """The task's figure (0..1)."""
    weights: Weights = "scratch"
    """What the training started from."""
    epochs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FullTraining:
    """The training of `architecture` by `recipe`, kept in `folder`; without `start` it begins with fresh weights."""

    name: str
    architecture: Architecture
    recipe: Recipe
    trainer: Trainer
    folder: Path
    start: Start | None = None
    board: TensorBoard | None = None

    @property
    def weights(self) -> Weights:
        """What the training starts from."""
        if self.start is not None:
            return "inherited"
        return "scratch" if self.trainer.origin_of(self.architecture) is None else "pretrained"

    @property
    def file(self) -> Path:
        """Holds the training while it lasts, then the trained network."""
        size, outputs = shown(self.trainer.sizes.of(self.architecture)), self.trainer.task.outputs
        under = f"-{outputs.name}" if isinstance(outputs, DenseHead) else ""
        stem = f"{self.architecture.id}-{size}px-seed{self.trainer.seed}-{self.weights}{under}"
        return self.folder / f"{stem}.pt"

    def advance(self, epochs: int) -> Standing:
        """Train until `epochs` epochs are finished, or all of the recipe's, from where an earlier process stopped.

        Raises Diverged, and BadInput for a damaged file.
        """
        epochs = min(epochs, self.recipe.epochs)
        saved = self._load()
        if saved is not None:
            standing = _standing(saved)
            if standing.finished or standing.epochs >= epochs:
                return standing
        return _Advance(self, saved).to(epochs)

    def trained(self) -> Trained:
        """The trained network; what is left of its training is done first."""
        network, standing = self.finished()
        return Trained(
            self.name, self.architecture, network, standing.accuracy, self.weights, standing.epochs, standing.seconds
        )

    def finished(self) -> tuple[nn.Module, Standing]:
        """The trained network, on the CPU, and how it stands; what is left of its training is done first."""
        standing = self.advance(self.recipe.epochs)
        saved = self._load()
        assert saved is not None
        network = self.trainer.build(self.architecture, self.recipe.dropout)
        network.load_state_dict(saved["weights"])
        network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return network.eval(), standing

    def _load(self) -> dict[str, Any] | None:
        """What an earlier process, or this one, saved last; the training begins again where that is damaged."""
        return read_kept(self.file, _saved)


class _Advance:
    """One process's part of a full training."""

    def __init__(self, whole: FullTraining, saved: dict[str, Any] | None):
        self._whole, trainer, recipe = whole, whole.trainer, whole.recipe
        network = trainer.build(whole.architecture, recipe.dropout)
        if whole.start is not None and saved is None:
            network.load_state_dict(whole.start().state_dict())
        self._training = trainer.training(network, whole.architecture, recipe)
        self._seconds, self._standing = 0.0, Standing(0, np.zeros(0, bool), 0.0)
        self._best: dict[str, Any] = {"epochs": 0, "accuracy": -1.0, "weights": {}}
        if saved is not None:
            self._restore(saved)
        self._began = self._saved_at = time.monotonic()

    def to(self, epochs: int) -> Standing:
        """Train to the end of that epoch, or until patience ends, and judge."""
        whole, training = self._whole, self._training
        drawn_every = 1 if whole.recipe.patience else -(-whole.recipe.epochs // DRAWN)
        last = epochs * training.steps_an_epoch
        with progress(f"train {whole.name}", last) as shown:

            def stepped(step: int) -> None:
                shown.update(step, last)
                if step % training.steps_an_epoch:  # an epoch's end is kept with what was drawn there
                    self._keep()

            while training.epochs < epochs and not self._is_out_of_patience():
                with finishing_steps():
                    epoch = training.epoch(stepped)
                    drawn = self._quick_accuracy() if epoch.number % drawn_every == 0 else None
                    self._show(epoch, drawn, shown, last)
                    if training.epochs < epochs:
                        self._keep()
        try:
            self._judge(finished=epochs == whole.recipe.epochs or training.epochs < epochs)
        except KeyboardInterrupt:
            self._save()
            raise
        self._save()
        if self._standing.finished:
            name, value = NAMES[whole.trainer.task.figure], 100 * self._standing.accuracy
            trained = count(training.epochs, "epoch")
            log.info("%s: trained for %s, validation %s %.2f%%", whole.name, trained, name, value)
        return self._standing

    def _is_out_of_patience(self) -> bool:
        patience = self._whole.recipe.patience
        return bool(patience) and self._training.epochs - self._best["epochs"] >= patience

    def _keep(self) -> None:
        """Save the training now and then, and before an interruption."""
        if (asked() or time.monotonic() - self._saved_at > SAVE_S) and self._training.is_finite():
            self._save()
        stop_if_asked()

    def _judge(self, finished: bool) -> None:
        """Judge the averaged weights; where patience may end a finished training, those of its best epoch."""
        whole, averaged = self._whole, self._training.averaged
        if finished and self._best["weights"]:
            averaged.load_state_dict(self._best["weights"])
        whole.trainer.finish(averaged, whole.architecture, STATISTICS_IMAGES)
        correct, weights, value, parts = whole.trainer.grade(averaged, whole.architecture)
        self._standing = Standing(self._training.epochs, correct, self._elapsed_s(), finished, weights, value, parts)

    def _quick_accuracy(self) -> float:
        """The averaged weights' accuracy on some search-validation images, for the curve and for patience."""
        whole, averaged = self._whole, self._training.averaged
        whole.trainer.finish(averaged, whole.architecture, DRAWN_STATISTICS_IMAGES)
        accuracy = whole.trainer.limited(val=DRAWN_IMAGES, seed=0).accuracy(averaged, whole.architecture)
        if whole.recipe.patience and accuracy > self._best["accuracy"]:
            weights = copied(averaged.state_dict())
            self._best = {"epochs": self._training.epochs, "accuracy": accuracy, "weights": weights}
        return accuracy

    def _show(self, epoch: Epoch, accuracy: float | None, shown: Progress, last: int) -> None:
        figures = {"loss": epoch.loss, "lr": epoch.lr, "images_per_s": epoch.images_per_s}
        if accuracy is not None:
            figures[self._whole.trainer.task.figure] = accuracy
            shown.update(self._training.step, last, f"loss {epoch.loss:.3f}, validation {accuracy:.2%}")
        if self._whole.board is not None:
            self._whole.board.training(self._whole.name, epoch.number, figures)

    def _elapsed_s(self) -> float:
        return self._seconds + time.monotonic() - self._began

    # --- the file

    def _save(self) -> None:
        standing = self._standing
        saved: dict[str, Any] = {
            "epochs": standing.epochs, "correct": torch.from_numpy(standing.correct), "seconds": self._elapsed_s(),
            "finished": standing.finished,
            "image_weights": None if standing.weights is None else torch.from_numpy(standing.weights),
        }  # fmt: skip
        if standing.value is not None:
            saved["value"] = standing.value
        if standing.parts is not None:
            saved["parts"] = torch.from_numpy(standing.parts)
        if standing.finished:
            saved["weights"] = self._training.averaged.state_dict()
        else:
            saved |= {"training": self._training.state(), "best": self._best}
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        write_kept(self._whole.file, buffer.getvalue())
        self._saved_at = time.monotonic()

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            self._training.restore(saved["training"])
            self._best = saved["best"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"{self._whole.file}: of another training ({str(error).splitlines()[0]}); delete it to train again"
            ) from None
        self._standing, self._seconds = _standing(saved), saved["seconds"]


def _saved(content: bytes) -> dict[str, Any]:
    """What was saved; ValueError and others where the content is damaged, or something else."""
    saved: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    _standing(saved)
    return saved


def _standing(saved: dict[str, Any]) -> Standing:
    weights, parts = (None if saved.get(name) is None else saved[name].numpy() for name in ("image_weights", "parts"))
    return Standing(
        saved["epochs"], saved["correct"].numpy(), saved["seconds"], saved["finished"], weights, saved.get("value"),
        parts,
    )  # fmt: skip
