"""Tables for sampler_efficiency.py: the value and the cost of every network of a small space.

- supernet: 1,080 networks of 8 choices. The value is the mean probability of the right class over the
  search-validation images of the digits, by a supernet that is trained here, with inherited weights. Cost: MAdds.
- naswot: 864 networks of 8 choices. The value is NASWOT's score on the digits. Cost: MAdds.
- large: 60 choices of 2 to 4 options, synthetic. The value has main effects, 60 interacting pairs and noise, and
  saturates. Cost: a size times a sum.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import cpu_trainer

import mnas
from mnas.config import SupernetRecipe
from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.sources import load_data
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.io.strict_yaml import parse_yaml, validate
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.training.loop import recalibrate
from mnas.training.supernet import SupernetTraining

AFFORDABLE = 0.4
"""The share of the networks that are within the budget."""
CPU = torch.device("cpu")

SEVEN = """
name: seven
reference: mobilenet_v3_small
resolution: [16, 24, 32]
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
shared: [kernel, expansion, se, activation]
stages:
  - {channels: [8, 16], stride: 2, depth: [1, 2, 3], kernel: [3, 5, 7], expansion: [2, 3, 4], activation: relu}
  - {channels: [24, 40], stride: 2, depth: [1, 2], kernel: 3, expansion: 3, se: [0, 0.25, 0.5], activation: [relu, hard_swish]}
head: {channels: 64, hidden: 96, activation: hard_swish}
bn_eps: 0.001
"""  # noqa: E501

EIGHT = """
name: eight
reference: mobilenet_v3_small
resolution: [16, 24, 32]
stem: {channels: 8, kernel: 3, stride: 2, activation: hard_swish}
shared: [kernel, expansion, se, activation]
stages:
  - {channels: [8, 12, 16], stride: 1, depth: [1, 2], kernel: [3, 5], expansion: 3, activation: [relu, hard_swish]}
  - {channels: [16, 24, 32], stride: 2, depth: [1, 2, 3], kernel: 3, expansion: [2, 3, 4], se: [0, 0.25], activation: relu}
head: {channels: 64, hidden: 96, activation: hard_swish}
bn_eps: 0.001
"""  # noqa: E501


@dataclass(frozen=True)
class Table:
    """The networks that a study searches, with the value and the cost of each."""

    suggest: Callable[[Any], Any]
    """The point that a trial proposes."""
    value: Callable[[Any], float]
    """A point's value."""
    cost: Callable[[Mapping[str, Any]], Any]
    """The cost of a trial's parameters; None while a choice is missing."""
    point: Callable[[Mapping[str, Any]], Any]
    """The point of a trial's parameters."""
    budget: float
    best: float
    """The best value within the budget."""
    deviation: float
    """The standard deviation of the values within the budget."""
    points: int
    """The number of points; 0 if they are too many to count."""


def of_space(text: str, score: Callable[[SearchSpace], Callable[[mnas.Architecture], float]]) -> Table:
    """The table of a space's YAML; `score(space)` gives the function from an architecture to its value."""
    space = SearchSpace(validate(SpaceFile, parse_yaml(text, "space"), "space"))
    value = score(space)
    values = {arch: value(arch) for arch in space.enumerate()}
    madds = {arch: float(mnas.cost(arch).madds) for arch in values}
    budget = float(np.quantile(list(madds.values()), AFFORDABLE))
    affordable = [value for arch, value in values.items() if madds[arch] <= budget]
    decode = functools.cache(lambda genes: space.decode(dict(genes)))

    def point(params: Mapping[str, Any]) -> mnas.Architecture:
        return decode(tuple(sorted(params.items())))

    def cost(params: Mapping[str, Any]) -> float | None:
        try:
            return madds[point(params)]
        except mnas.BadInput:  # a choice is missing, which the sampler has not seen yet
            return None

    return Table(
        space.suggest, values.__getitem__, cost, point, budget, max(affordable), statistics.pstdev(affordable),
        len(values),
    )  # fmt: skip


def supernet_score(space: SearchSpace) -> Callable[[mnas.Architecture], float]:
    data = load_data("digits")
    torch.manual_seed(0)
    supernet = mnas.Supernet(space, data.num_classes)
    for _ in SupernetTraining(supernet, SupernetRecipe(epochs=30), cpu_trainer(data)).run():
        pass

    @torch.inference_mode()
    def score(arch: mnas.Architecture) -> float:
        network, size = supernet.extract(arch), arch.resolution
        recalibrate(network, data.train, images=512, size=size, device=CPU)
        network.eval()
        probabilities = [
            network(normalise(images, size)).softmax(1).gather(1, labels[:, None])
            for images, labels in batches(data.val, batch_size=512, size=size, device=CPU)
        ]
        return float(torch.cat(probabilities).mean())

    return score


def naswot_score(space: SearchSpace) -> Callable[[mnas.Architecture], float]:
    estimator = ZeroCostEstimator(space, cpu_trainer(load_data("digits")), "naswot")
    return estimator.score


def large() -> Table:
    """The synthetic table; its best value is that of a long local search."""
    rng = np.random.default_rng(2026)
    sizes = rng.integers(2, 5, 60)
    main = [np.sort(rng.gamma(1, 1, n)) if rng.random() < 0.7 else rng.normal(0, 0.6, n) for n in sizes]
    weight = rng.gamma(0.7, 1, 60)
    drawn = [rng.choice(60, 2, replace=False) for _ in range(60)]
    pairs = [(a, b, rng.normal(0, 0.5 * rng.gamma(0.7, 1), (sizes[a], sizes[b]))) for a, b in drawn]
    parts = [np.sort(rng.gamma(2, 1, n)).tolist() for n in sizes]
    size, salt = np.linspace(1, 2.2, sizes[0]).tolist(), rng.integers(1, 2**31, 60)
    names = [f"choice{i:02d}" for i in range(60)]

    def point(params: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(params[name] for name in names)

    def value(points: Any) -> Any:
        columns = np.atleast_2d(points).T
        total = sum(w * effects[column] for w, effects, column in zip(weight, main, columns, strict=True))
        total = total + sum(table[columns[a], columns[b]] for a, b, table in pairs)
        noise = np.sin((columns * salt[:, None]).sum(0) % 10_007 * 12.9898) * 43_758.5453
        return 90 + 3 * np.tanh(total / np.sqrt(60) / 3) + 0.1 * (noise - np.floor(noise) - 0.5)

    def cost(point: Any) -> float:
        return float(size[point[0]] * (1 + sum(part[i] for part, i in zip(parts[1:], point[1:], strict=True))))

    sample = rng.integers(0, sizes, (20_000, 60))
    sample_costs = np.array([cost(point) for point in sample.tolist()])
    budget = float(np.quantile(sample_costs, AFFORDABLE))
    affordable = sample[sample_costs <= budget]
    values = value(affordable)

    def climbed(start: Any) -> float:
        """The best value reached from `start` by moving to the best of 3,000 points with one or two changes."""
        best = float(value(start)[0])
        while True:
            near = np.repeat(start[None], 3000, axis=0)
            for _ in range(2):
                at = rng.integers(0, 60, 3000)
                near[np.arange(3000), at] = rng.integers(0, sizes[at])
            near = near[[cost(point) <= budget for point in near.tolist()]]
            reached = value(near)
            if reached.max() <= best:
                return best
            start, best = near[reached.argmax()], float(reached.max())

    best = max(climbed(affordable[index]) for index in np.argsort(-values)[:20])

    def suggest(trial: Any) -> tuple[int, ...]:
        return tuple(
            trial.suggest_categorical(name, list(range(n))) for name, n in zip(names, sizes.tolist(), strict=True)
        )

    return Table(
        suggest, lambda point: float(value(point)[0]), lambda params: cost(point(params)), point, budget, best,
        float(values.std()), 0,
    )  # fmt: skip


TABLES: dict[str, Callable[[], Table]] = {
    "supernet": lambda: of_space(SEVEN, supernet_score),
    "naswot": lambda: of_space(EIGHT, naswot_score),
    "large": large,
}  # fmt: skip
