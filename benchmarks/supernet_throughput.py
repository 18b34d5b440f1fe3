"""Training speed of subnets inside the supernet of v3_large, beside the same networks alone: 32x32, batch 128.

    python benchmarks/supernet_throughput.py [ROUNDS]

`step` is one training step of `mnas.training.loop.fit` (forward, backward, clipped gradient, SGD) without augmentation;
`gradients` is forward and backward only. Ratios are images/s inside the supernet over images/s alone, medians over
rounds in which every network has its turn. The layouts are of MobileNetV3-Large:

static_channels_last   the network alone, as mnas trains it
static_default         the same in PyTorch's default layout
supernet               the subnet inside the supernet, as mnas trains it
indexed_default        the subnet inside the supernet in the default layout, with weights sliced and made contiguous at
                       each use, as in Once-for-All's public code (without its kernel transforms; not its code)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from common import options_parser, save
from torch import Tensor, nn

import mnas
from mnas.config import Recipe
from mnas.latency.timing.rounds import RoundLimits, by_key, sample
from mnas.nn import slot
from mnas.space.architecture import Architecture
from mnas.training.recipe import optimizer

BATCH, CLASSES = 128, 10
RECIPE = Recipe(lr=1.0e-4)  # so low that no weight becomes denormal or infinite, which would change the speed
LAST, DEFAULT = torch.channels_last, torch.contiguous_format


class Largest:
    """A proposal that takes the largest option of every choice."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return max(choices)


@dataclass(frozen=True)
class Setup:
    """The space, and the networks and images of all measurements."""

    space: mnas.SearchSpace
    reference: Architecture
    subnets: dict[str, Architecture]
    images: Tensor
    labels: Tensor


def setup(rng: random.Random) -> Setup:
    torch.manual_seed(0)
    space = mnas.load_space("v3_large").with_resolutions((32,))
    reference = mnas.zoo.get(space.reference, resolution=32)
    subnets = {"largest": space.suggest(Largest()), "reference": reference}
    subnets |= {f"random_{number}": space.sample(rng) for number in range(1, 4)}
    return Setup(space, reference, subnets, torch.randn(BATCH, 3, 32, 32), torch.randint(CLASSES, (BATCH,)))


def in_layout(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    return network.to(memory_format=layout).train()  # type: ignore[call-overload]


def supernet(setup: Setup, layout: torch.memory_format) -> mnas.Supernet:
    network = mnas.Supernet(setup.space, CLASSES)
    in_layout(network, layout)
    return network


def training_step(
    setup: Setup, network: nn.Module, layout: torch.memory_format, arch: Architecture | None, whole_step: bool
) -> Callable[[], None]:
    """One training step of `network`, or of its subnet `arch`."""
    x = setup.images.contiguous(memory_format=layout)
    subnet = () if arch is None else (arch,)
    optim = optimizer(network, RECIPE) if whole_step else None

    def step() -> None:
        logits = network(x, *subnet)
        loss = nn.functional.cross_entropy(logits, setup.labels, label_smoothing=RECIPE.label_smoothing)
        network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if optim is not None:
            nn.utils.clip_grad_norm_(network.parameters(), RECIPE.clip_norm)
            optim.step()

    return step


def beside_static(setup: Setup, whole_step: bool, rounds: int, rng: random.Random) -> dict[str, Any]:
    """Images/s of each subnet alone and inside the supernet, and the ratio of the two."""
    shared = supernet(setup, LAST)
    steps = {}
    for name, arch in setup.subnets.items():
        steps[name, "supernet"] = training_step(setup, shared, LAST, arch, whole_step)
        steps[name, "alone"] = training_step(setup, in_layout(shared.extract(arch), LAST), LAST, None, whole_step)
    ms = by_key(sample(steps, RoundLimits(rounds), rng=rng, settle=0))
    return {
        name: {
            "supernet": per_s(ms[name, "supernet"]),
            "alone": per_s(ms[name, "alone"]),
            "ratio": ratio(ms[name, "alone"], ms[name, "supernet"]),
        }
        for name in setup.subnets
    }


def by_layout(setup: Setup, rounds: int, rng: random.Random) -> dict[str, Any]:
    """Images/s of whole steps of the reference network, by layout and by way of execution."""
    reference = setup.reference
    in_default = training_step(setup, supernet(setup, DEFAULT), DEFAULT, reference, True)
    cut = slot.slice_of

    def copied_slices(full: Tensor, shape: torch.Size) -> Tensor:
        return slot.view_of(full, shape).contiguous()

    def indexed_step() -> None:
        slot.slice_of = copied_slices
        in_default()
        slot.slice_of = cut

    def alone(layout: torch.memory_format) -> Callable[[], None]:
        return training_step(setup, in_layout(mnas.build(reference, CLASSES), layout), layout, None, True)

    ms = by_key(sample({
        "static_channels_last": alone(LAST),
        "static_default": alone(DEFAULT),
        "supernet": training_step(setup, supernet(setup, LAST), LAST, reference, True),
        "indexed_default": indexed_step,
    }, RoundLimits(rounds), rng=rng, settle=0))  # fmt: skip
    return {name: per_s(times) for name, times in ms.items()} | {
        "supernet_over_static_default": ratio(ms["static_default"], ms["supernet"]),
        "supernet_over_indexed_default": ratio(ms["indexed_default"], ms["supernet"]),
    }


def per_s(times_ms: list[float]) -> float:
    return round(1000 * BATCH / median(times_ms), 1)


def ratio(slow_ms: list[float], fast_ms: list[float]) -> float:
    return round(median(slow / fast for slow, fast in zip(slow_ms, fast_ms, strict=True)), 3)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=30)
    rounds, rng = parser.parse_args(arguments).rounds, random.Random(0)
    shared = setup(rng)
    figures: dict[str, Any] = {"batch": BATCH, "resolution": 32, "rounds": rounds}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        figures[f"{threads}_threads"] = {
            "step": beside_static(shared, True, rounds, rng), "gradients": beside_static(shared, False, rounds, rng),
            "reference_by_layout": by_layout(shared, rounds, rng),
        }  # fmt: skip
    save("supernet_throughput", figures)


if __name__ == "__main__":
    main()
