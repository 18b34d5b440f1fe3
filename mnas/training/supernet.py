"""Training a supernet: the sandwich rule with in-place distillation (arXiv 1903.05134, 2003.11142)."""

from __future__ import annotations

import functools
import io
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mnas.config import SupernetRecipe
from mnas.errors import BadInput
from mnas.io.checksum import read_kept, write_kept
from mnas.io.interrupt import asked, finishing_steps
from mnas.io.size import Size, sides
from mnas.nn.supernet import Supernet
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.dense import classes_of
from mnas.space.space import SearchSpace
from mnas.training.distributed import SINGLE, ProcessGroup
from mnas.training.guard import Guard
from mnas.training.loop import Diverged, Setting, copied
from mnas.training.memory import accumulate, parts_of
from mnas.training.precision import training_heap, training_pass
from mnas.training.recipe import lr_at, optimizer
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

INTERVAL = 50
"""Steps between two checks of the losses: as many as a collapse or a kill can cost."""
CHECKPOINT_S = 20.0
"""Least seconds between two checkpoints, which are written at the end of an interval."""


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """What a training saved in a checkpoint, or in the one before it; None where there is none that is whole."""

    def parse(content: bytes) -> dict[str, Any]:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        return state

    return read_kept(path, parse)


@dataclass(frozen=True)
class Interval:
    """The figures of some consecutive steps."""

    step: int
    """The last of them, counted from 1."""
    steps: int
    """Steps of the whole training."""
    losses: dict[str, float]
    """Mean loss of the largest, the smallest and the random subnets."""
    lr: float
    images_per_s: float
    """Each image counts once for each subnet of its step."""
    collapsed: str = ""
    """Why the steps were undone; empty if they were not."""


@functools.lru_cache(maxsize=8)
def largest_and_smallest(space: SearchSpace) -> tuple[Architecture, Architecture]:
    """The networks of a space with the most and the fewest MAdds; found once for each space object."""

    def madds(arch: Architecture) -> float:
        return float(cost(arch).madds)

    return space.argmax(madds), space.argmin(madds)


class SupernetTraining:
    """One training, step by step. A step depends only on the seed and its number, so that a resume is exact."""

    def __init__(
        self, supernet: Supernet, recipe: SupernetRecipe, trainer: Trainer, *, group: ProcessGroup = SINGLE,
        checkpoint: Path | None = None,
    ):  # fmt: skip
        self._device, self._seed, self._sizes = trainer.device, trainer.seed, trainer.sizes
        self._precision = trainer.precision
        self.supernet = supernet.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._largest, self._smallest = largest_and_smallest(supernet.space)
        task, size = trainer.task.limited(train=recipe.images, seed=self._seed), self._sizes.of(self._largest)
        setting = Setting(size, self._device, self._seed, classes_of(task.outputs), self._precision)
        self._lessons = task.supernet_lessons(recipe, setting)
        # each process contributes its own batch
        self._recipe = recipe.model_copy(update={"batch_size": recipe.batch_size * group.size})
        self._group, self._checkpoint = group, checkpoint
        group.equalise(self.supernet)
        self._optim = optimizer(self.supernet, self._recipe)
        self._average = AveragedModel(self.supernet, multi_avg_fn=self._update_average)
        self._guard = Guard(self._lessons.guessing)
        self._batch = min(self._recipe.batch_size, max(group.size, len(self._lessons)))
        self._parts = parts_of(self._batch // group.size, self._largest, size, self._device, task.outputs)
        self.steps_an_epoch = max(1, len(self._lessons) // self._batch)
        self.steps = self.steps_an_epoch * recipe.epochs
        self.step = 0

    @property
    def averaged(self) -> Supernet:
        """The supernet with the moving average of the weights, which is evaluated and kept."""
        average = self._average.module
        assert isinstance(average, Supernet)
        return average

    # --- steps

    def run(self, stepped: Callable[[int], None] = lambda step: None) -> Iterator[Interval]:
        """Train from the checkpoint, yielding after each interval; in the end `supernet` has the averaged weights.

        `stepped` is called with the number of each step. Raises Diverged after repeated collapses.
        """
        if self._checkpoint is not None:
            self._load(self._checkpoint)
        good = latest = self._state()
        saved = time.monotonic()
        while self.step < self.steps:
            with finishing_steps(alone=self._group.size == 1):
                began, images, losses = time.perf_counter(), 0, []
                end = min(self.steps, (self.step // INTERVAL + 1) * INTERVAL)
                with training_heap(self._device):
                    for raw, known in self._data(end):
                        losses.append(self._train_step(raw, known))
                        stepped(self.step)
                        images += len(raw) * len(losses[-1]) * self._group.size
                        if asked() and self._group.size == 1:
                            break
                mean = self._group.mean(torch.stack(losses).mean(0).cpu())
                took = time.perf_counter() - began
                shown = {"largest": float(mean[0]), "smallest": float(mean[-1]), "random": float(mean[1:-1].mean())}
                if self._guard.holds(shown["largest"]):
                    # the last steps may be broken although their mean loss is fine: the next interval confirms them
                    good, latest = latest, self._state()
                    interval = Interval(self.step, self.steps, shown, self._lr(), images / took)
                else:
                    interval, latest = self._undo(good, shown, images / took), good
                due = bool(interval.collapsed) or time.monotonic() - saved > CHECKPOINT_S or asked()
                if due and self._group.is_main and self._checkpoint:
                    self.save()
                    saved = time.monotonic()
            yield interval
        self.supernet.load_state_dict(self.averaged.state_dict())

    def _train_step(self, raw: Tensor, known: Any) -> Tensor:
        """One optimizer step; returns the losses (n,) of its subnets."""
        archs = self.subnets(self.step)
        subnets = [(arch, self._sizes.of(arch)) for arch in archs]
        seed = random.Random(f"{self._seed}/{self.step}/{self._group.rank}").getrandbits(62)
        images, targets = self._lessons.augmented(raw, known, {size for _, size in subnets}, seed)
        for group in self._optim.param_groups:
            group["lr"] = self._lr()
        self.supernet.train()
        sums: list[Tensor] = []

        def begin() -> None:
            torch.manual_seed(seed)  # for dropout
            sums.clear()
            self._optim.zero_grad(set_to_none=True)

        def add(part: slice) -> None:
            some, known = ({size: batch[part] for size, batch in each.items()} for each in (images, targets))
            sums.append(self._backward(some, known, subnets, (part.stop - part.start) / len(raw)))

        self._parts = accumulate(begin, add, len(raw), self._parts)
        self._group.average([p.grad for p in self.supernet.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(self.supernet.parameters(), self._recipe.clip_norm)
        self._optim.step()
        self._average.update_parameters(self.supernet)
        self.step += 1
        return torch.stack(sums).sum(0)

    def _backward(
        self, images: Mapping[Size, Tensor], targets: Mapping[Size, Any], subnets: Sequence[tuple[Architecture, Size]],
        share: float,
    ) -> Tensor:  # fmt: skip
        """Add the gradients of a part of a batch, this `share` of it; returns its part of the subnets' losses (n,)."""
        losses: list[Tensor] = []
        with training_pass(self._device, self._precision, min(images, key=sides)):
            for loss in self._lessons.losses(self.supernet, images, targets, subnets):
                weighted = loss * share
                with torch.autocast(self._device.type, enabled=False):
                    weighted.backward()  # type: ignore[no-untyped-call]
                losses.append(weighted.detach())
                del loss, weighted
        return torch.stack(losses)

    @torch.no_grad()
    def _update_average(self, averages: Any, weights: Any, _: Any) -> None:
        """Move the averages towards the weights, faster in the first steps, so that these are soon forgotten."""
        kept = min(self._recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(averages), list(weights), 1 - kept)

    def subnets(self, step: int) -> list[Architecture]:
        """A step's subnets, the same in every process: the largest, random ones, the smallest."""
        rng = random.Random(f"{self._seed}/{step}")
        drawn = [self.supernet.space.sample(rng) for _ in range(self._recipe.subnets)]
        return [self._largest, *drawn, self._smallest]

    def _lr(self) -> float:
        return lr_at(min(1.0, (self.step + 1) / self.steps), self._recipe) * self._guard.lr_factor

    def _data(self, end: int) -> Iterator[tuple[Tensor, Any]]:
        """This process's share of the batches of the steps up to `end`, exclusive."""
        while self.step < end:
            epoch, first = divmod(self.step, self.steps_an_epoch)
            last = min(self.steps_an_epoch, first + end - self.step)
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._lessons))
            share = order[first * self._batch : last * self._batch].reshape(-1, self._batch)
            share, before = share[:, self._group.rank :: self._group.size], self.step
            yield from self._lessons.batches(share.ravel(), share.shape[1])
            if self.step == before:
                raise BadInput(f"none of {share.size} training images could be decoded; repair or delete them")

    # --- checkpoints and collapses

    def save(self) -> None:
        """Write the checkpoint."""
        assert self._checkpoint is not None
        buffer = io.BytesIO()
        torch.save(self._state(), buffer)
        write_kept(self._checkpoint, buffer.getvalue())

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step, "steps": self.steps, "guard": self._guard.to_dict(),
            "weights": copied(self.supernet.state_dict()), "average": copied(self._average.state_dict()),
            "optimizer": copied(self._optim.state_dict()),
        }  # fmt: skip

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.supernet.load_state_dict(state["weights"])
        self._average.load_state_dict(state["average"])
        self._optim.load_state_dict(copied(state["optimizer"]))

    def _load(self, path: Path) -> None:
        state = read_checkpoint(path, self._device)
        if state is None:
            return
        try:
            if state["steps"] != self.steps:
                raise BadInput(
                    f"{path}: a training of {state['steps']} steps, expected {self.steps}; use as many processes as "
                    "before, or delete the file to train again"
                )
            self._restore(state)
            self._guard = Guard(**state["guard"])
        except BadInput:
            raise
        except Exception:  # torch.load and load_state_dict raise many kinds
            raise BadInput(f"{path}: of another training, or from another space; delete it to train again") from None
        log.info("supernet: continuing after step %d of %d", self.step, self.steps)

    def _undo(self, good: dict[str, Any], shown: dict[str, float], images_per_s: float) -> Interval:
        loss, broke_at = shown["largest"], self.step
        reason = "the loss is not finite" if not math.isfinite(loss) else f"its loss rose to {loss:.3g}"
        if self._guard.gives_up:
            raise Diverged(
                f"the supernet's training collapsed {self._guard.strikes} times, last at step {broke_at} ({reason}); "
                f"try a learning rate below {self._recipe.lr:g} in a new run (--set supernet.lr=...)"
            )
        self._restore(good)
        log.warning(
            "supernet: collapsed at step %d (%s); back to step %d with %g times the learning rate",
            broke_at, reason, self.step, self._guard.lr_factor,
        )  # fmt: skip
        return Interval(self.step, self.steps, shown, self._lr(), images_per_s, reason)
