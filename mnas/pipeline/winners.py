"""The end of a search: winners and baselines trained, compared and written; a finished run read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from mnas.config import RunConfig
from mnas.export.dense import is_dense, load_dense
from mnas.export.folder import load_model
from mnas.io.files import read_json, whole_folder, write_atomic
from mnas.io.size import written
from mnas.io.strict_yaml import read_text
from mnas.latency.timing.rounds import Measurement
from mnas.monitor.figures import value_on_test
from mnas.pipeline.contenders import weights_of
from mnas.pipeline.context import Context
from mnas.pipeline.kind import judged
from mnas.pipeline.kinds import kind_of
from mnas.pipeline.leaderboard import (
    LeaderboardRow,
    final_rows,
    race_rows,
    update_leaderboard,
    validation_score,
)
from mnas.pipeline.metrics import Goal, rows_of, write_winner
from mnas.pipeline.pacing import Pacing
from mnas.pipeline.plan import most_epochs
from mnas.pipeline.race import Contender
from mnas.pipeline.races import Outcome
from mnas.pipeline.trainings import SharedTrainings
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.analysis import front_of
from mnas.study.trial import Trial
from mnas.training.full import Trained
from mnas.training.loop import Diverged

log = logging.getLogger("mnas")

Describe = Callable[[float | None], Mapping[str, Any]]
"""Gives what metrics.json says about the search, for the winner of a budget."""


@dataclass(frozen=True)
class Winner:
    """An architecture that a run hands over, trained."""

    architecture: Architecture
    folder: Path
    """model.py, weights, ONNX, metrics: see the README in it."""
    test_accuracy: float
    """The task's figure (0..1) on the test split: accuracy, mIoU or mAP."""
    latency_ms: float
    """As a whole network on the (first) device: measured, at its table's speed; or predicted for one elsewhere."""
    budget_ms: float | None = None
    """The budget that it keeps there; None if there was none."""
    metrics: dict[str, Any] = field(default_factory=dict, repr=False)
    """The content of its metrics.json."""

    def load(self) -> nn.Module:
        """The trained network in eval mode."""
        return load_dense(self.folder).network if is_dense(self.folder) else load_model(self.folder)[0]


@dataclass(frozen=True)
class Result:
    """What a search returns."""

    winner: Winner
    """The last of `winners`."""
    winners: tuple[Winner, ...]
    """One for each budget of one device, fastest first; usually a single one."""
    front: list[Trial]
    """The Pareto front of the finished trials, from fast to slow."""
    trials: list[Trial]
    metrics: dict[str, Any]
    """The content of winner/metrics.json."""
    folder: Path
    missed_ms: tuple[float, ...] = ()
    """Those of several budgets that no candidate keeps; `mnas resume` measures their finalists again."""


def result_of(run: Run, config: RunConfig) -> Result:
    """The result of a run, from its files."""
    trials = [Trial.from_json(record) for record in run.read_trials()]
    winners, missed = [], []
    for budget_ms in config.wanted_ms:
        folder = winner_folder(run, config, budget_ms)
        if (folder / "metrics.json").exists() or budget_ms is None:
            winners.append(_read_winner(folder, budget_ms))
        else:
            missed.append(budget_ms)
    return Result(winners[-1], tuple(winners), front_of(trials), trials, winners[-1].metrics, run.folder, tuple(missed))


def _read_winner(folder: Path, budget_ms: float | None) -> Winner:
    metrics = read_json(folder / "metrics.json")
    path, row = folder / "architecture.yaml", metrics["networks"][0]
    arch = Architecture.from_yaml(read_text(path), str(path))
    return Winner(arch, folder, value_on_test(row), row["latency_ms"], budget_ms, metrics)


def winner_folder(run: Run, config: RunConfig, budget_ms: float | None) -> Path:
    """The folder of a budget's winner: winner/, or one in winners/ where there are several budgets."""
    return run.winners / f"{budget_ms:.15g}ms" if config.budgets_ms else run.winner


# --- training and writing


def hand_over(
    context: Context, shared: SharedTrainings, outcomes: Sequence[Outcome],
    baselines: Sequence[tuple[str, Architecture]], describe: Describe, trials: Sequence[Trial], pacing: Pacing,
) -> None:  # fmt: skip
    """Train what the races left untrained, and write each winner's folder.

    The baselines are those that the configuration states, or else the best reference of each race. With several
    budgets each winner has a folder in winners/, and winner/ is a copy of the last one's.
    """
    config, trainer, kind = context.config, context.trainer.at_full_size(), kind_of(context.config)
    task = trainer.task
    stated = [
        _seeds(shared, _baseline(name, arch, outcomes, pacing, context), config.seeds) for name, arch in baselines
    ]
    stated = [seeds for seeds in stated if seeds]
    by_number, listed = {trial.number: trial for trial in trials}, list[LeaderboardRow]()
    for outcome in outcomes:
        first, *others = _seeds(shared, outcome.winner, config.seeds)
        winner = [replace(first, name=_name(config, outcome.budget_ms)), *others]
        reference = outcome.best_reference
        compared = stated or ([] if reference is None else [_seeds(shared, reference, config.seeds)])
        # nothing is left to decide: the test split may be read
        networks = [judged(kind, seeds, trainer) for seeds in (winner, *compared)]
        rows = rows_of(kind, networks[:1], "winner", task.outputs)
        rows += rows_of(kind, networks[1:], "baseline", task.outputs)
        search = {**describe(outcome.budget_ms), **_race_facts(outcome, by_number)}
        folder = winner_folder(context.run, config, outcome.budget_ms)
        goal, recipe = Goal(folder, outcome.budget_ms), shared.recipe_of(outcome.winner)
        write_winner(kind, context, networks, rows, goal, recipe, search)
        listed += [*_placed(outcome, task.counted or 0), *final_rows(kind, networks, rows)]
    kind.end(context)
    update_leaderboard(context, [], listed)
    if config.budgets_ms:
        _copy_files(winner_folder(context.run, config, outcomes[-1].budget_ms), context.run.winner)


def _seeds(shared: SharedTrainings, contender: Contender, seeds: int) -> list[Trained]:
    """A network trained with each seed, the run's own first; those with which it diverges are left out."""
    trained = []
    for repeat in range(seeds):
        try:
            trained.append(shared.trained(contender, repeat))
        except Diverged as error:
            log.warning("%s, seed %d: %s", contender.name, repeat, error)
    return trained


def _placed(outcome: Outcome, val_images: int) -> list[LeaderboardRow]:
    """The rows of a race that is over."""
    finished = {
        one.contender.name: validation_score(
            one.standing.accuracy, val_images, one.standing.epochs, one.standing.seconds
        )
        for one in outcome.placings if one.standing
    }  # fmt: skip
    return race_rows(outcome.entered, outcome.rungs, finished, val_images)


def _baseline(
    name: str, arch: Architecture, outcomes: Sequence[Outcome], pacing: Pacing, context: Context
) -> Contender:
    """A stated baseline, trained for as long as the last winner, or with the weights of the contender that it was."""
    same = (one for outcome in outcomes for one in outcome.entered if one.architecture == arch)
    entered = next(same, None)
    weights = weights_of(arch, context) if entered is None else entered.weights
    baseline = Contender(name, arch, "reference", Measurement(0.0, 0.0, 0), weights)
    winner, standing = outcomes[-1].winner, outcomes[-1].placings[0].standing
    if standing is None or winner.architecture == arch or winner.epochs >= most_epochs(pacing.recipe):
        return replace(baseline, epochs=winner.epochs)
    return replace(baseline, epochs=pacing.epochs(arch, standing.seconds))


def _race_facts(outcome: Outcome, trials: Mapping[int, Trial]) -> dict[str, Any]:
    """What metrics.json says about a race."""
    winner = outcome.winner
    trial = None if winner.trial is None else trials.get(winner.trial)
    return {
        "winner": winner.name, "chosen_trial": winner.trial,
        "chosen_estimate": None if trial is None else trial.accuracy,
        "chosen_grade": None if trial is None else trial.fidelity,
        "race": {
            "contenders": [
                {"name": one.name, "kind": one.kind, "resolution": written(one.architecture.resolution),
                 "weights": one.weights, "latency_ms": one.latency.median_ms} for one in outcome.entered
            ],
            "rungs": [
                {name: rung[name] for name in ("part", "epochs", "accuracies", "survivors")} for rung in outcome.rungs
            ],
            "final": {one.contender.name: one.standing.accuracy for one in outcome.placings if one.standing},
        },
    }  # fmt: skip


def _name(config: RunConfig, budget_ms: float | None) -> str:
    """The name of a budget's winner."""
    return f"winner-{budget_ms:.15g}ms" if config.budgets_ms else "winner"


def _copy_files(source: Path, target: Path) -> None:
    """Copy a winner's files."""
    with whole_folder(target) as folder:
        for path in source.iterdir():
            if path.is_file():
                write_atomic(folder / path.name, path.read_bytes())
