"""Random search: what a sampler must beat, with as many evaluations by the same estimator."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from mnas.estimators import Estimate, Estimator, make_estimate, never
from mnas.monitor.console import progress
from mnas.monitor.tensorboard import TensorBoard
from mnas.space.architecture import Architecture
from mnas.study.analysis import Best
from mnas.study.study import Study
from mnas.study.trial import Trial
from mnas.training.distributed import SINGLE, ProcessGroup

log = logging.getLogger("mnas")

DRAWS = 20_000
"""Networks drawn in vain, one after another, before no further one that may be evaluated is looked for."""


def random_search(
    study: Study, estimator: Estimator, *, seed: int, board: TensorBoard, deadline: float | None = None,
    at_once: int = 1, group: ProcessGroup = SINGLE, callback: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:  # fmt: skip
    """As many random networks as the study evaluated, with their estimates; fewer where `deadline` (time.monotonic)
    is past, or no further one is found. Those in random_trials.jsonl are kept.

    They are different, may be evaluated as the study's may (budget, limits), and have each choice drawn uniformly. The
    study's evaluations include the reference networks that it begins with. No random candidate is pruned.
    """
    run, count = study.run, study.evaluated
    trials = [Trial.from_json(record) for record in run.read_trials(run.random_trials_path)]
    best = Best(study.goal.budget_ms)
    for trial in trials:
        best.add(trial)

    def estimate(arch: Architecture) -> Estimate:
        return make_estimate(estimator, arch, never)

    with progress("random search", count) as shown:
        while len(trials) < count and (deadline is None or time.monotonic() < deadline):
            archs = _drawn(study, trials, min(at_once, count - len(trials)), seed, deadline)
            if not archs and (deadline is None or time.monotonic() < deadline):
                log.info("random search: no further network that may be evaluated was found")
                break
            for arch, found in zip(archs, group.map(estimate, archs), strict=True):
                trial = Trial(
                    len(trials), found.state, arch, study.latency(arch), found.accuracy, None, found.seconds,
                    found.curve, "", found.fidelity,
                )  # fmt: skip
                run.append_trial(trial.to_json(), run.random_trials_path)
                trials.append(trial)
                best.add(trial)
                if best.trial is not None and best.trial.accuracy is not None:
                    board.trial(trial.number, {"random/best_feasible_accuracy": best.trial.accuracy})
                callback(trial)
            shown.update(len(trials), count)
    log.info("random search: %d candidates evaluated", len(trials))
    return trials


def _drawn(
    study: Study, trials: Sequence[Trial], count: int, seed: int, deadline: float | None
) -> list[Architecture]:
    """The next random networks; the same ones after a resume. Fewer where `deadline` passes: latencies may be slow."""
    known = {trial.architecture for trial in trials}
    found: list[Architecture] = []
    for number in range(len(trials), len(trials) + count):
        rng = random.Random(f"{seed}/random/{number}")
        draws = (
            study.space.sample(rng) for _ in range(DRAWS) if deadline is None or time.monotonic() < deadline
        )
        new = next((arch for arch in draws if arch not in known and study.may_be_evaluated(arch)), None)
        if new is None:
            break
        known.add(new)
        found.append(new)
    return found


# --- the comparison




