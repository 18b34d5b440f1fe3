"""The evaluations that a sampler needs: mnas's samplers and Optuna's, on tables of every network of a small space.

    python benchmarks/sampler_efficiency.py [TABLE ...] [SAMPLER ...] [speed]

All tables and all samplers by default; other results in the file are kept. Seeds run in parallel, except for `speed`.
sampler_tables.py has the three tables. The budget of each is met by 40% of its networks.

Optuna's samplers are given the constraint, mnas's samplers the cost function. An evaluation is a trial within the
budget; a trial over it is reported to the sampler too, but not counted. Regret: the best value within the budget less
the best value found, in standard deviations of the networks within the budget.
`speed`: milliseconds of a proposal on `large` after 500 trials within the budget, median of 20.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import optuna
import torch
from common import options_parser, save_part, saved_parts
from optuna.trial import TrialState
from sampler_tables import TABLES, Table

from mnas.samplers import EvolutionSampler, PredictorSampler
from mnas.study.sampler import example

RESULT = "sampler_efficiency"
EVALUATIONS, LONG, SEEDS = 50, 200, 20
FINISHED = 500

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
"""The evaluations of a search where they are not EVALUATIONS."""


def regrets_of(table: Table, sampler: optuna.samplers.BaseSampler, evaluations: int) -> list[float]:
    """The regret after each evaluation."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    best, regrets = -np.inf, list[float]()
    for _ in range(20 * evaluations):
        trial = study.ask()
        point = table.suggest(trial)
        load = table.cost(trial.params) / table.budget
        trial.set_constraint("cost", load - 1)
        value = table.value(point)
        study.tell(trial, value)  # even over the budget: Optuna's constrained samplers learn from it
        if load > 1:
            continue
        best = max(best, value)
        regrets.append((table.best - best) / table.deviation)
        if len(regrets) == evaluations:
            break
    return regrets + regrets[-1:] * (evaluations - len(regrets))


def proposal_ms(table: Table, make: Callable[[Table, int], optuna.samplers.BaseSampler], finished: int) -> float:
    """Median of 20 proposals after `finished` trials within the budget."""
    study = optuna.create_study(direction="maximize", sampler=make(table, 0))
    rng = random.Random(0)
    space: Any = table  # `example` needs its `suggest`
    while len(study.get_trials(deepcopy=False)) < finished:
        frozen = example(space, rng)
        if table.cost(frozen.params) <= table.budget:
            value = table.value(table.point(frozen.params))
            study.add_trial(optuna.trial.create_trial(
                params=frozen.params, distributions=frozen.distributions, value=value
            ))  # fmt: skip
    milliseconds = []
    for _ in range(20):
        began = time.perf_counter()
        trial = study.ask()
        point = table.suggest(trial)
        milliseconds.append(1000 * (time.perf_counter() - began))
        if table.cost(trial.params) > table.budget:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, table.value(point))
    return statistics.median(milliseconds)


def curve(table: str, sampler: str, seed: int) -> list[float]:
    """The regrets of one search, in a process of its own."""
    silence_optuna()
    opened = table_of(table)
    return regrets_of(opened, SAMPLERS[sampler](opened, seed), EVALUATED.get(sampler, EVALUATIONS))


def summary(curves: list[list[float]]) -> dict[str, float]:
    """The mean regret after every fifth evaluation, later after every fiftieth."""
    mean = np.mean(curves, axis=0)
    counts = [count for count in range(5, len(mean) + 1, 5) if count <= EVALUATIONS or count % 50 == 0]
    return {str(count): round(float(mean[count - 1]), 4) for count in counts}


def judged(regret: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The predictor compared with the other samplers; empty until all samplers have searched."""
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
    """Search one table with each sampler, and save the figures after each."""
    about = {"points": table_of(name).points or "60 choices", "seeds": SEEDS}
    for sampler in samplers:
        curves = pool.starmap(curve, [(name, sampler, seed) for seed in range(SEEDS)], chunksize=1)
        regret = saved_parts(RESULT).get(name, {}).get("regret", {}) | {sampler: summary(curves)}
        in_order = {sampler: regret[sampler] for sampler in SAMPLERS if sampler in regret}
        save_part(RESULT, name, about | {"regret": in_order} | judged(regret))


def silence_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    torch.set_num_threads(1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="TABLE|SAMPLER|speed")
    names = parser.parse_args(arguments).names
    if unknown := set(names) - {*TABLES, *SAMPLERS, "speed"}:
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join([*TABLES, *SAMPLERS, 'speed'])}")
    silence_optuna()
    samplers = [name for name in SAMPLERS if name in names] or list(SAMPLERS)
    for name in [name for name in names if name not in samplers] or [*TABLES, "speed"]:
        if name == "speed":
            measured = {
                sampler: round(proposal_ms(table_of("large"), SAMPLERS[sampler], FINISHED), 1)
                for sampler in samplers if sampler != "gp"
            }  # fmt: skip
            save_part(RESULT, name, measured)
            continue
        table_of(name)  # before the processes start, so that they share it
        with multiprocessing.get_context("fork").Pool() as pool:
            search(name, samplers, pool)


if __name__ == "__main__":
    main()
