"""How often a race keeps the contender that would have won: all are trained to the end here, and races replayed.

    python benchmarks/race_ranking.py fashion_mnist cifar10 --networks 12 --images 2000

Networks of the space v3_small at 32 and 48 px, the first two of them MobileNetV3-Small at both sizes, are trained by
the default recipe on --images images of each data set, and judged on a validation split a quarter as large at each
rung. A race has three random networks and the two references. Of 200 races, `first_two` is the share in which the best
by test accuracy (10,000 images) is among the first two; `points_lost` is what the winner lacks against that best.
Beside it: races whose first rung is never left out, and races in which all are trained to the end.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import cpu_trainer, options_parser, save_part
from recipe_parts import opened

import mnas
from mnas.config import Recipe
from mnas.data.splits import limited
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.race import Contender, Placing, Rules, ordered, race, rungs_of
from mnas.pipeline.running_race import LEAST_STEPS
from mnas.space.architecture import Architecture
from mnas.training.full import FullTraining, Standing
from mnas.training.recipe import steps_an_epoch

RACES, FOUND = 200, 3
SIZES = (32, 48)


@dataclass(frozen=True)
class Trained:
    """A network trained to the end."""

    contender: Contender
    standings: dict[int, Standing]
    """By epochs."""
    test_accuracy: float


def trained(source: str, networks: int, images: int) -> list[Trained]:
    """The references and random networks, each trained with a seed of its own."""
    data = opened(source)
    data = replace(data, train=limited(data.train, images, 0), val=limited(data.val, images // 4, 0))
    space, rng, recipe = mnas.load_space("v3_small").with_resolutions(SIZES), random.Random(0), Recipe()
    done = []
    for number in range(networks):
        reference = number < len(SIZES)
        arch = mnas.zoo.get("mobilenet_v3_small", resolution=SIZES[number]) if reference else space.sample(rng)
        done.append(_trained(data, arch, recipe, number, reference))
        one = done[-1]
        print(f"{source}: {one.contender.name}, {one.test_accuracy:.2%}", flush=True)
    return done


def _trained(data: mnas.ImageData, arch: Architecture, recipe: Recipe, number: int, reference: bool) -> Trained:
    trainer = cpu_trainer(data, flip=data.flip, seed=number)
    contender = Contender(
        f"{number} ({arch.resolution} px)", arch, "reference" if reference else "found",
        Measurement(mnas.cost(arch).madds / 1e6, 0.0, 1), epochs=recipe.epochs,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        training = FullTraining(str(number), arch, recipe, trainer, Path(folder))
        ends = [contender.epochs_at(part) for part in (*rungs_of(recipe.epochs), 1.0)]
        standings = {epoch: training.advance(epoch) for epoch in ends}
        accuracy = trainer.accuracy(training.trained().network, arch, "test", exact=True)
    return Trained(contender, standings, accuracy)


def replayed(networks: Sequence[Trained], rungs: Sequence[float]) -> dict[str, float]:
    """Races among random ones of `networks`, without ties that train on."""
    by_name = {one.contender.name: one for one in networks}
    references = [one for one in networks if one.contender.kind == "reference"]
    others, rng = [one for one in networks if one.contender.kind == "found"], random.Random(0)
    first = first_two = lost = 0.0

    def advance(contenders: Sequence[Contender], part: float) -> list[Standing | None]:
        return [by_name[one.name].standings[one.epochs_at(part)] for one in contenders]

    def order(placings: Sequence[Placing]) -> list[Placing]:
        return ordered(placings, lambda accuracy, latency_ms: (accuracy, -latency_ms))

    rules = Rules(order, affords=lambda placings, rung: False)

    for _ in range(RACES):
        entered = [*rng.sample(others, FOUND), *references]
        placings = race([one.contender for one in entered], rungs, advance, rules)
        best = max(entered, key=lambda one: one.test_accuracy)
        names = [placing.contender.name for placing in placings]
        first += names[0] == best.contender.name
        first_two += best.contender.name in names[:2]
        lost += best.test_accuracy - by_name[names[0]].test_accuracy
    return {"first": first / RACES, "first_two": first_two / RACES, "points_lost": round(100 * lost / RACES, 3)}


def figures_of(networks: Sequence[Trained], images: int) -> dict[str, Any]:
    epochs = Recipe().epochs
    least = -(-LEAST_STEPS // steps_an_epoch(Recipe(), images))
    return {
        "races": replayed(networks, rungs_of(epochs, least)),
        "with_every_rung": replayed(networks, rungs_of(epochs)),
        "without_rungs": replayed(networks, ()),
        "networks": {
            one.contender.name: {
                "test_accuracy": round(one.test_accuracy, 4),
                "val_accuracy": {str(epoch): round(standing.accuracy, 4) for epoch, standing in one.standings.items()},
            } for one in networks
        },
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args(arguments)
    for source in options.data:
        networks = trained(source, options.networks, options.images)
        save_part("race_ranking", f"{source}, {options.images} images", figures_of(networks, options.images))


if __name__ == "__main__":
    main()
