"""The training loop, as an iterator over epochs: the caller evaluates, reports, prunes and stops."""

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


def fit(
    network: nn.Module, split: Split, recipe: Recipe, *, size: int, device: torch.device, seed: int,
    teacher: nn.Module | None = None,
) -> Iterator[Epoch]:  # fmt: skip
    """Train `network` in place on images of `size` pixels; yields after each epoch.

    With a `teacher`, half of the loss is against its outputs for the same images (arXiv 1503.02531). `seed` decides
    dropout and the order and augmentation of the images. An undecided `recipe.flip` mirrors nothing: see `with_flip`.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optim = optimizer(network, recipe)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    steps = max(1, len(split) // recipe.batch_size) * recipe.epochs
    step = 0
    for number in range(1, recipe.epochs + 1):
        network.train()
        began, images, losses = time.perf_counter(), 0, torch.zeros((), device=device)
        for raw, labels in batches(
            split, batch_size=recipe.batch_size, size=size, device=device, generator=generator
        ):
            lr = lr_at(min(1.0, (step + 1) / steps), recipe)
            for parameters in optim.param_groups:
                parameters["lr"] = lr
            x = augment(raw, size, generator=generator, flip=bool(recipe.flip), crop=recipe.crop)
            with training_pass(device):
                logits = network(x)
                loss: Tensor = criterion(logits, labels)
                if teacher is not None:
                    loss = (loss + nn.functional.cross_entropy(logits, _probabilities(teacher, x))) / 2
            optim.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optim.step()
            losses += loss.detach() * len(labels)
            images += len(labels)
            step += 1
        mean = float(losses) / max(1, images)
        if not math.isfinite(mean):
            raise Diverged(
                f"training diverged in epoch {number}: the loss is {mean}; try a learning rate below {recipe.lr:g} in "
                "a new run (--set recipe.lr=..., or --set lr=... for mnas train)"
            )
        yield Epoch(number, mean, lr, images / (time.perf_counter() - began))


@torch.no_grad()
def _probabilities(network: nn.Module, x: Tensor) -> Tensor:
    """The probabilities (b, classes) that a network gives for images (b, 3, h, w)."""
    probabilities: Tensor = network(x).float().softmax(1)
    return probabilities


@torch.no_grad()
def recalibrate(
    network: nn.Module, split: Split, *, images: int, size: int, device: torch.device, batch_size: int = 64
) -> None:
    """Replace the running statistics of batch normalisation by their mean over about `images` training images.

    After a short training the moving averages still contain the first steps.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    network.train()
    generator = torch.Generator().manual_seed(0)
    sample = limited(split, images, 0)
    for raw, _ in batches(sample, batch_size=batch_size, size=size, device=device, generator=generator):
        with autocast(device):
            network(normalise(raw, size))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.inference_mode()
def accuracy(
    network: nn.Module, split: Split, *, size: int, device: torch.device, batch_size: int = 256, exact: bool = False
) -> float:
    """The fraction (0..1) of the images of `split` that `network` classifies correctly at `size` pixels.

    `exact`: in float32 even where training uses bfloat16, as the exported network computes.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()
    correct, seen = torch.zeros((), device=device), 0
    for raw, labels in batches(split, batch_size=batch_size, size=size, device=device):
        with contextlib.nullcontext() if exact else autocast(device):
            correct += (network(normalise(raw, size)).argmax(1) == labels).sum()
        seen += len(labels)
    return float(correct) / max(1, seen)


def training_pass(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of a training step's forward pass."""
    return QuickDepthwise() if device.type == "cpu" and helps() else autocast(device)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 on CUDA; elsewhere float32, which is faster on CPUs without native bfloat16."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
