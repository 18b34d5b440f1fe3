"""What tells the better of two trained networks on few validation images: accuracy, loss, or the one after the other.

    python benchmarks/small_validation.py cifar10 fashion_mnist --networks 10 --images 1000

Networks of the space v3_small at 32 px are trained by the default recipe on --images training images. Each is judged on
10,000 images; many times some of these are the validation split, and the rest says which network is better. Written
down for each size of the validation split: the share of pairs of networks told right by each rule, and what it costs to
hand over the rule's choice among four networks instead of the best of them, in percentage points of accuracy.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from common import cpu_trainer, options_parser, save_part
from numpy.typing import NDArray
from recipe_parts import opened
from torch.nn.functional import cross_entropy

import mnas
from mnas.config import Recipe
from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.splits import Split, limited
from mnas.training.full import STATISTICS_IMAGES

SIZE = 32
SIZES = (100, 300, 1000, 3000)
DRAWS = 1000
TIE = 1.0

Rows = NDArray[np.float64]
Rule = Callable[[Rows, Rows], int]
"""(correct, losses), each (networks, n) -> the index of the chosen network."""


def by_accuracy(correct: Rows, losses: Rows) -> int:
    return int(np.argmax(correct.mean(1)))


def by_loss(correct: Rows, losses: Rows) -> int:
    return int(np.argmin(losses.mean(1)))


def by_loss_where_tied(correct: Rows, losses: Rows) -> int:
    best = correct[by_accuracy(correct, losses)]
    gained, lost = (best > correct).sum(1), (best < correct).sum(1)
    tied = gained - lost <= TIE * np.sqrt(gained + lost)
    return int(np.argmin(np.where(tied, losses.mean(1), np.inf)))


RULES: dict[str, Rule] = {
    "accuracy": by_accuracy, "loss": by_loss, "accuracy, loss where tied": by_loss_where_tied,
}  # fmt: skip


def judged(source: str, networks: int, images: int, test_images: int) -> tuple[Rows, Rows, list[str]]:
    """(correct, losses) of each network on each image, and the networks."""
    data = opened(source)
    data = replace(data, train=limited(data.train, images, 0), test=limited(data.test, test_images, 0))
    space = mnas.load_space("v3_small").with_resolutions((SIZE,))
    rng = random.Random(0)
    correct, losses, names = [], [], []
    for number in range(networks):
        arch = mnas.zoo.get("mobilenet_v3_small", resolution=SIZE) if number == 0 else space.sample(rng)
        trainer = cpu_trainer(data, flip=bool(data.flip), seed=number)
        training = trainer.training(trainer.build(arch), arch, Recipe())
        list(training.rest())
        trainer.finish(training.averaged, arch, STATISTICS_IMAGES)
        outputs = [
            (network_says.argmax(1) == labels, cross_entropy(network_says, labels, reduction="none"))
            for network_says, labels in said(training.averaged, data.test)
        ]
        correct.append(torch.cat([right for right, _ in outputs]).double().numpy())
        losses.append(torch.cat([loss for _, loss in outputs]).double().numpy())
        names.append(arch.id)
        print(f"{source}: network {number}, {correct[-1].mean():.2%}, loss {losses[-1].mean():.3f}", flush=True)
    return np.stack(correct), np.stack(losses), names


@torch.inference_mode()
def said(network: torch.nn.Module, split: Split) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits (b, classes) and labels (b,) of each batch."""
    network.eval()
    for raw, labels in batches(split, batch_size=256, size=SIZE, device=torch.device("cpu")):
        yield network(normalise(raw, SIZE)), labels


def figures_of(correct: Rows, losses: Rows) -> dict[str, dict[str, dict[str, float]]]:
    """By size of the validation split and rule: the share of pairs told right, and points lost among four."""
    rng, total = np.random.default_rng(0), correct.shape[1]
    pairs = list(itertools.combinations(range(len(correct)), 2))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for size in (size for size in SIZES if 2 * size <= total):
        right, lost = dict.fromkeys(RULES, 0.0), dict.fromkeys(RULES, 0.0)
        for _ in range(DRAWS):
            order = rng.permutation(total)
            seen, rest = order[:size], correct[:, order[size:]].mean(1)
            four, pair = rng.permutation(len(correct))[:4], list(pairs[rng.integers(len(pairs))])
            for name, rule in RULES.items():
                chosen = rule(correct[pair][:, seen], losses[pair][:, seen])
                right[name] += rest[pair[chosen]] >= rest[pair[1 - chosen]]
                chosen = rule(correct[four][:, seen], losses[four][:, seen])
                lost[name] += rest[four].max() - rest[four[chosen]]
        found[str(size)] = {
            name: {"pairs_right": round(right[name] / DRAWS, 3), "points_lost": round(100 * lost[name] / DRAWS, 3)}
            for name in RULES
        }  # fmt: skip
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--test-images", type=int, default=10_000)
    options = parser.parse_args(arguments)
    for source in options.data:
        correct, losses, names = judged(source, options.networks, options.images, options.test_images)
        save_part("small_validation", f"{source}, {options.images} images", {
            "networks": names, "accuracies": np.round(correct.mean(1), 4).tolist(),
            "losses": np.round(losses.mean(1), 4).tolist(), "by_validation_images": figures_of(correct, losses),
        })  # fmt: skip


if __name__ == "__main__":
    main()
