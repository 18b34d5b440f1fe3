"""Random search with the same estimator: what a sampler has to beat."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from mnas.estimators import Estimate, Estimator, make_estimate, never
from mnas.monitor.console import progress
from mnas.monitor.tensorboard import TensorBoard
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.analysis import best_so_far
from mnas.study.failures import Failures
from mnas.study.problem import Problem
from mnas.study.schedule import Schedule
from mnas.study.storage import written_trials
from mnas.study.trial import Evaluation, Trial

log = logging.getLogger("mnas")

MAX_DRAWS = 20_000
"""Draws without a new network that may be evaluated, before the search ends."""


def random_search(
    problem: Problem, estimator: Estimator, schedule: Schedule, *, run: Run, board: TensorBoard, seed: int,
    callbacks: Sequence[Callable[[Trial], None]] = (),
) -> list[Trial]:  # fmt: skip
    """`schedule.trials` different random networks with their estimates; fewer where the schedule or the space ends.

    Each choice of a network is drawn uniformly, and each network satisfies the problem's cutoff and constraints. None
    is pruned. Trials go to random_trials.jsonl in the run's folder; those already there are kept.
    """
    path = run.random_trials_path
    trials = written_trials(run, path)
    best, failures = _best(trials, problem.budget_ms), Failures()

    def estimate(arch: Architecture) -> Estimate:
        return make_estimate(estimator, arch, never)

    with progress("random search", schedule.trials) as bar:
        while count := schedule.batch(len(trials)):
            archs = random_networks(problem, [trial.architecture for trial in trials], count, seed, schedule)
            if not archs:
                if not schedule.is_late:
                    log.info("random search: found no further network that may be evaluated")
                break
            for arch, result in zip(archs, schedule.group.map(estimate, archs), strict=True):
                evaluation = Evaluation(result.fidelity, result.seconds, result.curve, result.images, result.error)
                number, ms = len(trials), problem.latency(arch)
                trial = Trial(number, result.state, arch, ms, result.accuracy, evaluation=evaluation)
                run.append_trial(trial.to_json(), path)
                trials.append(trial)
                best = _best([trial] if best is None else [best, trial], problem.budget_ms)
                if best is not None and best.accuracy is not None:
                    board.trial(trial.number, {"random/best_feasible_accuracy": best.accuracy})
                for callback in callbacks:
                    callback(trial)
                failures.add(trial)
            bar.update(len(trials), schedule.trials)
    log.info("random search: %d candidates evaluated", len(trials))
    return trials


def _best(trials: Sequence[Trial], budget_ms: float | None) -> Trial | None:
    return next(reversed(best_so_far(trials, budget_ms)), None)


def random_networks(
    problem: Problem, drawn: Sequence[Architecture], count: int, seed: int, schedule: Schedule
) -> list[Architecture]:
    """The next `count` random networks after those `drawn` before; fewer where the deadline is past or none is left.

    A network depends on the seed and its number only, so a resumed search draws the same ones.
    """
    taken, networks = set(drawn), list[Architecture]()
    for number in range(len(drawn), len(drawn) + count):
        rng = random.Random(f"{seed}/random/{number}")
        draws = (problem.space.sample(rng) for _ in range(MAX_DRAWS) if not schedule.is_late)
        new = next((arch for arch in draws if arch not in taken and problem.allows(arch)), None)
        if new is None:
            break
        taken.add(new)
        networks.append(new)
    return networks
