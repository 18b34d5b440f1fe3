"""How few evaluations a sampler needs: mnas's against Optuna's, on tables that hold every network of a small space.

    python benchmarks/sampler_efficiency.py [TABLE ...] [SAMPLER ...] [speed]

All tables and all samplers by default; what the result file has of others is kept. Seeds run side by side, but `speed`.

Three tables with a cost column, of which networks up to a budget (40% of them) are wanted:

- supernet: 1,080 networks of 8 choices; the mean probability that a supernet trained here on the digits gives to the
  right class of the search-validation images, with inherited weights; cost MAdds.
- naswot: 864 networks of 8 choices; NASWOT's score on the digits; cost MAdds.
- large: 60 choices of 2 to 4 options, synthetic: main effects, 60 pairs that interact, noise, a saturating sum; cost a
  product of a size and a sum.

Each sampler is told the constraint (Optuna's) or knows the cost (mnas's). An evaluation is a trial within the budget;
what is over it is told all the same, and is counted for nobody. Regret: the best network within the budget less the
best one found, in standard deviations of the networks within the budget. On `large` the best one is that of a long
local search.
`speed`: milliseconds of a proposal on `large` after 500 trials within the budget, median of 20.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import optuna
import torch
from common import keep, kept
from optuna.trial import TrialState

import mnas
from mnas.config import SupernetRecipe
from mnas.data.augment import normalise
from mnas.data.loader import batches
from mnas.data.sources import load_data
from mnas.estimators.zero_cost import ZeroCostEstimator
from mnas.io.strict_yaml import parse_yaml, validate
from mnas.samplers import EvolutionSampler, PredictorSampler
from mnas.space.schema import SpaceFile
from mnas.space.space import SearchSpace
from mnas.study.sampler import example
from mnas.training.loop import recalibrate
from mnas.training.supernet import SupernetTraining

RESULT = "sampler_efficiency"
EVALUATIONS, LONG, SEEDS = 50, 200, 20
FINISHED = 500
AFFORDABLE = 0.4
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
    """What a study searches: `ask` names a trial's choices, `value` and `cost` are known of each point."""

    ask: Callable[[Any], Any]
    value: Callable[[Any], float]
    cost: Callable[[Mapping[str, Any]], Any]
    point: Callable[[Mapping[str, Any]], Any]
    budget: float
    best: float
    deviation: float
    points: int


def of_space(text: str, score: Callable[[SearchSpace], Callable[[mnas.Architecture], float]]) -> Table:
    space = SearchSpace(validate(SpaceFile, parse_yaml(text, "space"), "space"))
    scored = score(space)
    values = {arch: scored(arch) for arch in space.enumerate()}
    madds = {arch: float(mnas.cost(arch).madds) for arch in values}
    budget = float(np.quantile(list(madds.values()), AFFORDABLE))
    within = [value for arch, value in values.items() if madds[arch] <= budget]
    decode = functools.cache(lambda genes: space.decode(dict(genes)))

    def point(params: Mapping[str, Any]) -> mnas.Architecture:
        return decode(tuple(sorted(params.items())))

    def priced(params: Mapping[str, Any]) -> float | None:
        try:
            return madds[point(params)]
        except mnas.BadInput:  # a choice is missing, which the sampler has not seen yet
            return None

    return Table(
        space.suggest, values.__getitem__, priced, point, budget, max(within), statistics.pstdev(within), len(values)
    )


def supernet_score(space: SearchSpace) -> Callable[[mnas.Architecture], float]:
    data = load_data("digits")
    torch.manual_seed(0)
    supernet = mnas.Supernet(space, data.num_classes)
    training = SupernetTraining(
        supernet, data.train, SupernetRecipe(epochs=30), size_of=lambda arch: arch.resolution, flip=False, device=CPU,
        seed=0,
    )  # fmt: skip
    for _ in training.run():
        pass

    @torch.inference_mode()
    def score(arch: mnas.Architecture) -> float:
        network, size = supernet.extract(arch), arch.resolution
        recalibrate(network, data.train, images=512, size=size, device=CPU)
        network.eval()
        right = [
            network(normalise(images, size)).softmax(1).gather(1, labels[:, None])
            for images, labels in batches(data.val, batch_size=512, size=size, device=CPU)
        ]
        return float(torch.cat(right).mean())

    return score


def naswot_score(space: SearchSpace) -> Callable[[mnas.Architecture], float]:
    estimator = ZeroCostEstimator(
        space, load_data("digits"), "naswot", size_of=lambda arch: arch.resolution, device=CPU, seed=0
    )
    return estimator.score


def large() -> Table:
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

    def costs(one: Any) -> float:
        return float(size[one[0]] * (1 + sum(part[i] for part, i in zip(parts[1:], one[1:], strict=True))))

    many = rng.integers(0, sizes, (20_000, 60))
    each = np.array([costs(one) for one in many.tolist()])
    budget = float(np.quantile(each, AFFORDABLE))
    within = many[each <= budget]
    values = value(within)

    def climbed(start: Any) -> float:
        """The best within two changes, again and again."""
        best = float(value(start)[0])
        while True:
            near = np.repeat(start[None], 3000, axis=0)
            for _ in range(2):
                at = rng.integers(0, 60, 3000)
                near[np.arange(3000), at] = rng.integers(0, sizes[at])
            near = near[[costs(one) <= budget for one in near.tolist()]]
            reached = value(near)
            if reached.max() <= best:
                return best
            start, best = near[reached.argmax()], float(reached.max())

    best = max(climbed(within[index]) for index in np.argsort(-values)[:20])

    def ask(trial: Any) -> tuple[int, ...]:
        return tuple(
            trial.suggest_categorical(name, list(range(n))) for name, n in zip(names, sizes.tolist(), strict=True)
        )

    return Table(
        ask, lambda one: float(value(one)[0]), lambda params: costs(point(params)), point, budget, best,
        float(values.std()), 0,
    )  # fmt: skip


# --- searching a table

TABLES: dict[str, Callable[[], Table]] = {
    "supernet": lambda: of_space(SEVEN, supernet_score),
    "naswot": lambda: of_space(EIGHT, naswot_score),
    "large": large,
}  # fmt: skip
table_of = functools.cache(lambda name: TABLES[name]())
SAMPLERS: dict[str, Callable[[Table, int], optuna.samplers.BaseSampler]] = {
    "predictor": lambda t, seed: PredictorSampler(known_cost=t.cost, budget=t.budget, seed=seed),
    "evolution": lambda t, seed: EvolutionSampler(known_cost=t.cost, budget=t.budget, seed=seed),
    "random": lambda t, seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda t, seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
    "tpe_multivariate": lambda t, seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "nsga2": lambda t, seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=16),
    "gp": lambda t, seed: optuna.samplers.GPSampler(seed=seed),
}
EVALUATED = {"tpe_multivariate": LONG, "evolution": LONG}
"""How often; EVALUATIONS unless told here."""


def regrets(table: Table, sampler: optuna.samplers.BaseSampler, evaluations: int) -> list[float]:
    """The regret after each evaluation."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    best, found = -np.inf, []
    for _ in range(20 * evaluations):
        trial = study.ask()
        point = table.ask(trial)
        load = table.cost(trial.params) / table.budget
        trial.set_constraint("cost", load - 1)
        value = table.value(point)
        study.tell(trial, value)  # over the budget too: Optuna's constrained samplers learn from it
        if load > 1:
            continue
        best = max(best, value)
        found.append((table.best - best) / table.deviation)
        if len(found) == evaluations:
            break
    return found + found[-1:] * (evaluations - len(found))


def milliseconds(table: Table, make: Callable[[Table, int], optuna.samplers.BaseSampler], finished: int) -> float:
    """Median of 20 proposals after `finished` trials within the budget."""
    study = optuna.create_study(direction="maximize", sampler=make(table, 0))
    rng = random.Random(0)
    drawn = 0
    while drawn < finished:
        frozen = example(Asked(table.ask), rng)
        if table.cost(frozen.params) <= table.budget:
            value = table.value(table.point(frozen.params))
            study.add_trial(optuna.trial.create_trial(
                params=frozen.params, distributions=frozen.distributions, value=value
            ))  # fmt: skip
            drawn += 1
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        trial = study.ask()
        point = table.ask(trial)
        taken.append(1000 * (time.perf_counter() - began))
        if table.cost(trial.params) > table.budget:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, table.value(point))
    return statistics.median(taken)


@dataclass(frozen=True)
class Asked:
    """A table as `example` needs it."""

    suggest: Callable[[Any], Any]


def curve(table: str, sampler: str, seed: int) -> list[float]:
    """The regrets of one search."""
    quietly()
    opened = table_of(table)
    return regrets(opened, SAMPLERS[sampler](opened, seed), EVALUATED.get(sampler, EVALUATIONS))


def summary(curves: list[list[float]]) -> dict[str, float]:
    mean = np.mean(curves, axis=0)
    counts = [count for count in range(5, len(mean) + 1, 5) if count <= EVALUATIONS or count % 50 == 0]
    return {str(count): round(float(mean[count - 1]), 4) for count in counts}


def judged(regret: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The figures that are promised, once all samplers have searched."""
    if set(regret) != set(SAMPLERS):
        return {}
    at_50 = {name: curve[str(EVALUATIONS)] for name, curve in regret.items()}
    goal = regret["tpe_multivariate"][str(LONG)]
    reached = [int(count) for count, value in regret["predictor"].items() if value <= goal]
    others = min(at_50[name] for name in ("random", "tpe", "tpe_multivariate", "nsga2"))
    return {
        "regret_50_over_best_but_gp": round(at_50["predictor"] / others, 3) if others else None,
        "regret_50_less_gp": round(at_50["predictor"] - at_50["gp"], 4),
        "evaluations_to_multivariate_tpe_at_200": reached[0] if reached else f"over {EVALUATIONS}",
    }


def search(name: str, samplers: list[str], pool: Pool) -> None:
    """Keep the figures after each sampler."""
    about = {"points": table_of(name).points or "60 choices", "seeds": SEEDS}
    for sampler in samplers:
        curves = pool.starmap(curve, [(name, sampler, seed) for seed in range(SEEDS)], chunksize=1)
        regret = kept(RESULT).get(name, {}).get("regret", {}) | {sampler: summary(curves)}
        keep(RESULT, name, about | {"regret": {one: regret[one] for one in SAMPLERS if one in regret}} | judged(regret))


def quietly() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    torch.set_num_threads(1)


def main() -> None:
    quietly()
    asked = sys.argv[1:]
    samplers = [name for name in SAMPLERS if name in asked] or list(SAMPLERS)
    tables = [name for name in asked if name not in samplers] or [*TABLES, "speed"]
    for name in tables:
        if name == "speed":
            taken = {one: milliseconds(table_of("large"), SAMPLERS[one], FINISHED) for one in samplers if one != "gp"}
            keep(RESULT, name, {one: round(ms, 1) for one, ms in taken.items()})
            continue
        table_of(name)  # made once, before there are processes
        with multiprocessing.get_context("fork").Pool() as pool:
            search(name, samplers, pool)


main()
