"""The training loop, as an iterator over epochs: its caller evaluates, reports, prunes and stops."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnas.config import Recipe
from mnas.data.augment import augment, normalise
from mnas.data.loader import batches
from mnas.data.splits import Split, limited
from mnas.errors import MnasError
from mnas.training.depthwise import QuickDepthwise, helps
from mnas.training.recipe import lr_at, optimizer


class Diverged(MnasError):
    """The loss is no longer a number."""

    exit_code = 2


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images showed."""

    number: int
    """From 1."""
    loss: float
    lr: float
    images_per_s: float


def fit(
    network: nn.Module, split: Split, recipe: Recipe, *, size: int, flip: bool, device: torch.device, seed: int,
    teacher: nn.Module | None = None,
) -> Iterator[Epoch]:  # fmt: skip
    """Train `network` in place on images of `size` pixels, one item an epoch.

    With a `teacher` of the same images, half of the loss is against its outputs (arXiv 1503.02531). Seeds torch's own
    generator (dropout) and the order and augmentation of the images with `seed`.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    optim = optimizer(network, recipe)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    steps = max(1, len(split) // recipe.batch_size) * recipe.epochs
    step = 0
    for number in range(1, recipe.epochs + 1):
        network.train()
        began, images, losses = time.perf_counter(), 0, torch.zeros((), device=device)
        for raw, labels in batches(split, batch_size=recipe.batch_size, size=size, device=device, generator=draw):
            lr = lr_at(min(1.0, (step + 1) / steps), recipe)
            for group in optim.param_groups:
                group["lr"] = lr
            x = augment(raw, size, generator=draw, flip=flip, crop=recipe.crop)
            with training_pass(device):
                logits = network(x)
                loss: Tensor = criterion(logits, labels)
                if teacher is not None:
                    loss = (loss + nn.functional.cross_entropy(logits, _taught(teacher, x))) / 2
            optim.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optim.step()
            losses += loss.detach() * len(labels)
            images += len(labels)
            step += 1
        mean = float(losses) / max(1, images)
        if not math.isfinite(mean):
            raise Diverged(f"training diverged in epoch {number}: the loss is {mean}; a new run with a lower learning "
                           f"rate than {recipe.lr:g} may help (--set recipe.lr=..., or lr=... of mnas train)")
        yield Epoch(number, mean, lr, images / (time.perf_counter() - began))


@torch.no_grad()
def _taught(teacher: nn.Module, x: Tensor) -> Tensor:
    """A teacher's probabilities (b, classes)."""
    probabilities: Tensor = teacher(x).float().softmax(1)
    return probabilities


@torch.no_grad()
def recalibrate(
    network: nn.Module, split: Split, *, images: int, size: int, device: torch.device, batch_size: int = 64
) -> None:
    """Batch normalisation's statistics anew, as the mean over about `images` training images.

    After a short training the running averages still remember the first steps; validation would judge those.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    network.train()
    draw = torch.Generator().manual_seed(0)
    part = limited(split, images, 0)
    for raw, _ in batches(part, batch_size=batch_size, size=size, device=device, generator=draw):
        with autocast(device):
            network(normalise(raw, size))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.inference_mode()
def accuracy(
    network: nn.Module, split: Split, *, size: int, device: torch.device, batch_size: int = 256,
    exact: bool = False,
) -> float:  # fmt: skip
    """The part (0..1) of the images of `split` that `network` classifies rightly at `size` pixels.

    `exact`: in float32 also where training is not, as the network is handed over.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    right, seen = torch.zeros((), device=device), 0
    for raw, labels in batches(split, batch_size=batch_size, size=size, device=device):
        with contextlib.nullcontext() if exact else autocast(device):
            right += (network(normalise(raw, size)).argmax(1) == labels).sum()
        seen += len(labels)
    return float(right) / max(1, seen)


def training_pass(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """What a training step's forward pass runs in."""
    return QuickDepthwise() if device.type == "cpu" and helps() else autocast(device)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 on CUDA; elsewhere float32, which is faster on CPUs without native bfloat16."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
