"""The training loop: one network's training, step by step; the caller judges, saves, prunes and stops."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnas.config import Recipe
from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.splits import Split, limited
from mnas.errors import BadInput, MnasError
from mnas.io.size import Size
from mnas.nn.drop_path import set_drop_path
from mnas.nn.features import Features
from mnas.nn.network import Network
from mnas.training.lessons import ClassLessons, Lessons
from mnas.training.memory import accumulate, judged_at_once
from mnas.training.precision import Precision, autocast, training_heap, training_pass
from mnas.training.recipe import lr_at, optimizer, set_lr


class Diverged(MnasError):
    """The training loss is not finite."""

    exit_code = 2


@dataclass(frozen=True)
class Epoch:
    """The figures of one pass over the training images."""

    number: int
    """From 1."""
    loss: float
    lr: float
    images_per_s: float


@dataclass(frozen=True)
class Setting:
    """Where and on which images a training computes."""

    size: Size
    """Of the images, in pixels."""
    device: torch.device
    seed: int
    """Decides dropout, and the order and augmentation of the images."""
    num_classes: int
    precision: Precision = "float32"
    parts: int = 1
    """Parts in which a batch is trained on, for want of memory."""


class Training:
    """One network's training by a recipe, step by step; it may be stopped after any step and continued elsewhere.

    A step depends only on the seed and its number, so that a continued training gives what an uninterrupted one would.
    """

    def __init__(self, network: nn.Module, lessons: Lessons, recipe: Recipe, setting: Setting):
        network.to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.recipe = network, recipe
        self.averaged = copy.deepcopy(network).requires_grad_(False) if recipe.ema else network
        """The network with the moving average of the weights, which is judged; its statistics need `recalibrate`."""
        # listed once: walking through the modules at each step takes time
        self._weights: list[Tensor] = list(network.parameters())
        self._averages: list[Tensor] = list(self.averaged.parameters())
        self.step = 0
        self.steps_an_epoch = max(1, len(lessons) // recipe.batch_size)
        self._lessons, self._setting = lessons, setting
        self._optim = optimizer(network, recipe)
        self._parts = setting.parts
        body = getattr(network, "backbone", network)
        if recipe.drop_path and isinstance(body, Network | Features):
            set_drop_path(body, recipe.drop_path)

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return self.step // self.steps_an_epoch

    def rest(self) -> Iterator[Epoch]:
        """Train all epochs that are left; yields after each."""
        while self.epochs < self.recipe.epochs:
            yield self.epoch()

    def epoch(self, stepped: Callable[[int], None] = lambda step: None) -> Epoch:
        """Train to the end of the current epoch; `stepped` is called with the number of each step.

        Raises Diverged where the loss is not finite, and BadInput where no image of the epoch could be decoded.
        """
        number = self.epochs + 1
        self.network.train()
        began, images, losses = time.perf_counter(), 0, torch.zeros((), device=self._setting.device)
        with training_heap(self._setting.device):
            for raw, known in self._data():
                loss = self._train_step(raw, known)
                losses += loss * len(raw)
                images += len(raw)
                stepped(self.step)
        if not images:
            raise BadInput(f"none of {len(self._lessons)} training images could be decoded; repair or delete them")
        mean = float(losses) / images
        if not math.isfinite(mean):
            raise Diverged(
                f"training diverged in epoch {number}: the loss is {mean}; try a learning rate below "
                f"{self.recipe.lr:g} in a new run (--set recipe.lr=..., or --set lr=... for mnas train)"
            )
        lr = lr_at(min(1.0, self.step / self._steps), self.recipe)
        self.step = number * self.steps_an_epoch  # broken images may have left some steps out
        return Epoch(number, mean, lr, images / (time.perf_counter() - began))

    @property
    def _steps(self) -> int:
        return self.steps_an_epoch * self.recipe.epochs

    def _data(self) -> Iterator[tuple[Tensor, Any]]:
        """The batches of the current epoch that are left."""
        epoch, first = divmod(self.step, self.steps_an_epoch)
        order = np.random.default_rng((self._setting.seed, epoch)).permutation(len(self._lessons))
        size = min(self.recipe.batch_size, len(order))
        yield from self._lessons.batches(order[first * size : self.steps_an_epoch * size], size)

    def _train_step(self, raw: Tensor, known: Any) -> Tensor:
        """One optimizer step on images uint8 (b, 3, h, w) and what is known of them; returns the loss."""
        recipe, setting = self.recipe, self._setting
        seed = random.Random(f"{setting.seed}/{self.step}").getrandbits(62)
        generator = torch.Generator().manual_seed(seed)
        set_lr(self._optim, min(1.0, (self.step + 1) / self._steps), recipe)
        x, targets = self._lessons.augmented(raw, known, generator)
        losses: list[Tensor] = []

        def begin() -> None:
            torch.manual_seed(seed)  # for dropout
            losses.clear()
            self._optim.zero_grad(set_to_none=True)

        def add(part: slice) -> None:
            loss = self._loss(x[part], targets[part]) * ((part.stop - part.start) / len(x))
            loss.backward()
            losses.append(loss.detach())

        self._parts = accumulate(begin, add, len(x), self._parts)
        nn.utils.clip_grad_norm_(self._weights, recipe.clip_norm)
        self._optim.step()
        self.step += 1
        if recipe.ema:
            self._update_average()
        return torch.stack(losses).sum()

    def _loss(self, x: Tensor, targets: Any) -> Tensor:
        """The mean loss of images (b, 3, h, w)."""
        setting = self._setting
        with training_pass(setting.device, setting.precision, setting.size):
            return self._lessons.loss(self.network, x, targets)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averages towards the weights, faster in the first steps, so that these are soon forgotten."""
        kept = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - kept)

    def is_finite(self) -> bool:
        """Whether the weights are finite: a training that has diverged is not worth keeping."""
        return all(bool(torch.isfinite(weights).all()) for weights in self._weights)

    # --- kept between processes

    def state(self) -> dict[str, Any]:
        """What continues this training in another process; a later step changes the tensors."""
        return {
            "step": self.step, "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimizer": self._optim.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave for a training by the same recipe on as many images."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optim.load_state_dict(state["optimizer"])
        self.step = state["step"]


def copied(state: Any) -> Any:
    """A copy of a state dict that later steps do not change."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


def fit(network: nn.Module, split: Split, recipe: Recipe, setting: Setting) -> Iterator[Epoch]:
    """Train a classifier in place by all epochs of a recipe; yields after each. See `Training` and `ClassLessons`."""
    return Training(network, ClassLessons(split, recipe, setting), recipe, setting).rest()


def recalibrate(
    network: nn.Module, split: Split, *, images: int, size: Size, device: torch.device, batch_size: int = 64
) -> None:
    """`recalibrate_on` about this number of images of `split`."""
    generator = torch.Generator().manual_seed(0)
    sample = limited(split, images, 0)
    seen = batches(sample, batch_size=batch_size, size=size, device=device, generator=generator)
    recalibrate_on(network, (normalise(raw, size) for raw, _ in seen), device)


@torch.no_grad()
def recalibrate_on(network: nn.Module, inputs: Iterable[Tensor], device: torch.device) -> None:
    """Replace the running statistics of batch normalisation by their mean over batches of inputs (b, 3, h, w).

    After a short training the moving averages still contain the first steps.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    network.eval()  # no dropout
    for norm in norms:
        norm.train()
    for x in inputs:
        with autocast(device):
            network(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.inference_mode()
def accuracy(
    network: nn.Module, split: Split, *, size: Size, device: torch.device, exact: bool = False
) -> float:
    """The fraction (0..1) of the images of `split` that `network` classifies correctly at `size`.

    `exact`: in float32 even where training uses bfloat16, as the exported network computes.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    correct, seen = torch.zeros((), device=device), 0
    for raw, labels in batches(split, batch_size=judged_at_once(size), size=size, device=device):
        with contextlib.nullcontext() if exact else autocast(device):
            correct += (network(normalise(raw, size)).argmax(1) == labels).sum()
        seen += len(labels)
    return float(correct) / max(1, seen)
