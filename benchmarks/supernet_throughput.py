"""Training steps of subnets inside the supernet of v3_large beside the same networks alone: 32x32, batch 128.

    python benchmarks/supernet_throughput.py [ROUNDS]

`step` is a step of training as `mnas.training.loop.fit` makes it (forward, backward, clipped gradient, SGD), without
its augmentation; `gradients` is forward and backward alone. Ratios are the medians over rounds in which every network
has its turn: images/s inside the supernet over images/s alone. The layouts are of MobileNetV3-Large:

static_channels_last   the network alone, as mnas trains it
static_default         the same in PyTorch's default layout
supernet               the subnet inside the supernet, as mnas trains it
indexed_default        the subnet inside the supernet in the default layout, weights sliced and made contiguous at each
                       use, as Once-for-all's public code does it (its kernel transforms left out; not its code)
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from common import save
from torch import Tensor, nn

import mnas
from mnas.config import Recipe
from mnas.latency.timing.rounds import RoundLimits, by_key, sample
from mnas.nn import supernet as supernet_module
from mnas.space.architecture import Architecture
from mnas.training.recipe import optimizer

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
BATCH, CLASSES = 128, 10
RECIPE = Recipe(lr=1.0e-4)  # so low that the weights stay usual: denormal and infinite ones have another speed


class Largest:
    """Answers every choice by the largest option."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return max(choices)


torch.manual_seed(0)
rng = random.Random(0)
space = mnas.load_space("v3_large").with_resolutions((32,))
reference = mnas.zoo.get(space.reference, resolution=32)
subnets = {"largest": space.suggest(Largest()), "reference": reference}
subnets |= {f"random_{number}": space.sample(rng) for number in range(1, 4)}
images = torch.randn(BATCH, 3, 32, 32)
labels = torch.randint(CLASSES, (BATCH,))
crop = supernet_module._cut


def in_layout(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    return network.to(memory_format=layout).train()


def new_supernet(layout: torch.memory_format) -> nn.Module:
    return in_layout(mnas.Supernet(space, CLASSES), layout)


def indexed(full: Tensor, shape: torch.Size) -> Tensor:
    return supernet_module._view(full, shape).contiguous()


def run(
    network: nn.Module, layout: torch.memory_format, arch: Architecture | None, whole_step: bool
) -> Callable[[], None]:
    """One training step of `network`, or of its subnet `arch`."""
    x = images.contiguous(memory_format=layout)
    chosen = () if arch is None else (arch,)
    optim = optimizer(network, RECIPE) if whole_step else None

    def step() -> None:
        loss = nn.functional.cross_entropy(network(x, *chosen), labels, label_smoothing=RECIPE.label_smoothing)
        network.zero_grad(set_to_none=True)
        loss.backward()
        if optim is not None:
            nn.utils.clip_grad_norm_(network.parameters(), RECIPE.clip_norm)
            optim.step()

    return step


def beside_static(whole_step: bool) -> dict[str, Any]:
    """Images/s of each subnet alone and inside the supernet, and the ratio of the two."""
    last = torch.channels_last
    shared = new_supernet(last)
    runs = {}
    for name, arch in subnets.items():
        runs[name, "supernet"] = run(shared, last, arch, whole_step)
        runs[name, "alone"] = run(shared.extract(arch), last, None, whole_step)
    ms = by_key(sample(runs, RoundLimits(ROUNDS), rng=rng, settle=0))
    return {
        name: {
            "supernet": per_s(ms[name, "supernet"]),
            "alone": per_s(ms[name, "alone"]),
            "ratio": ratio(ms[name, "alone"], ms[name, "supernet"]),
        }
        for name in subnets
    }


def by_layout() -> dict[str, Any]:
    """Images/s of whole steps of the reference network, by how it is executed."""
    last, default = torch.channels_last, torch.contiguous_format
    dynamic = run(new_supernet(default), default, reference, True)

    def indexed_step() -> None:
        supernet_module._cut = indexed
        dynamic()
        supernet_module._cut = crop

    ms = by_key(sample({
        "static_channels_last": run(in_layout(mnas.build(reference, CLASSES), last), last, None, True),
        "static_default": run(in_layout(mnas.build(reference, CLASSES), default), default, None, True),
        "supernet": run(new_supernet(last), last, reference, True),
        "indexed_default": indexed_step,
    }, RoundLimits(ROUNDS), rng=rng, settle=0))  # fmt: skip
    found: dict[str, Any] = {name: per_s(times) for name, times in ms.items()}
    return found | {
        "supernet_over_static_default": ratio(ms["static_default"], ms["supernet"]),
        "supernet_over_indexed_default": ratio(ms["indexed_default"], ms["supernet"]),
    }


def per_s(times_ms: list[float]) -> float:
    return round(1000 * BATCH / median(times_ms), 1)


def ratio(slow_ms: list[float], fast_ms: list[float]) -> float:
    return round(median(slow / fast for slow, fast in zip(slow_ms, fast_ms, strict=True)), 3)


figures: dict[str, Any] = {"batch": BATCH, "resolution": 32, "rounds": ROUNDS}
for threads in (1, 2):
    torch.set_num_threads(threads)
    figures[f"{threads}_threads"] = {
        "step": beside_static(True), "gradients": beside_static(False), "reference_by_layout": by_layout()
    }  # fmt: skip
save("supernet_throughput", figures)
