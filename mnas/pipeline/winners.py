"""The end of a search: winners and baselines trained, compared and written; a finished run read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mnas.config import Recipe, RunConfig
from mnas.estimators.weight_sharing import WeightSharing
from mnas.export.folder import load_model
from mnas.io.files import read_json, write_atomic
from mnas.io.strict_yaml import read_text
from mnas.nn.network import Network
from mnas.pipeline.context import Context
from mnas.pipeline.finalists import best_trained
from mnas.pipeline.metrics import rows_of, write_winner
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.analysis import front_of
from mnas.study.trial import Trial
from mnas.training.trainer import Trained, train_fully

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
    latency_ms: float
    """As a whole network on the (first) device: measured, or predicted by a table if the device is elsewhere."""
    budget_ms: float | None = None
    """The budget that it keeps there; None if there was none."""
    metrics: dict[str, Any] = field(default_factory=dict, repr=False)
    """The content of its metrics.json."""

    def load(self) -> Network:
        """The trained network in eval mode."""
        return load_model(self.folder)[0]


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
    return Winner(arch, folder, row["test_accuracy"], row["latency_ms"], budget_ms, metrics)


def winner_folder(run: Run, config: RunConfig, budget_ms: float | None) -> Path:
    """The folder of a budget's winner: winner/, or one in winners/ where there are several budgets."""
    return run.winners / f"{budget_ms:.15g}ms" if config.budgets_ms else run.winner


# --- training and writing


@dataclass(frozen=True)
class FinalTraining:
    """How winners and baselines are trained: by one recipe, from the supernet's weights where they inherit them."""

    context: Context
    recipe: Recipe
    sharing: WeightSharing | None
    after_training: Callable[[], None] = lambda: None

    def train(self, name: str, arch: Architecture) -> Trained:
        """Train one network fully, or load it if the run trained it already."""
        context, recipe, start, sharing = self.context, self.recipe, None, self.sharing
        if sharing is not None and not context.config.from_scratch and arch in context.space:
            start, recipe = partial(sharing.start, arch), sharing.recipe(recipe)
        trained = train_fully(
            name, arch, recipe, context.trainer, checkpoints=context.run.checkpoints, board=context.board, start=start
        )
        self.after_training()
        return trained


def hand_over(
    training: FinalTraining, chosen: Sequence[Trial | None], baselines: Sequence[tuple[str, Architecture]],
    describe: Describe,
) -> None:  # fmt: skip
    """Train the chosen candidates and the baselines, and write each winner's folder.

    With several budgets each winner has a folder in winners/, and winner/ is a copy of the last one's.
    """
    context, config = training.context, training.context.config
    kept = [(ms, trial) for ms, trial in zip(config.wanted_ms, chosen, strict=True) if trial is not None]
    numbers = ", ".join(str(trial.number) for _, trial in kept)
    which = "the winner (trial" if len(kept) == 1 else f"{len(kept)} winners (trials"
    log.info("training %s %s) and %d baseline(s)", which, numbers, len(baselines))
    winners = [training.train(_name(config, budget_ms), trial.architecture) for budget_ms, trial in kept]
    compared = [training.train(name, arch) for name, arch in baselines]
    final: list[Trained] = []
    replaced_by: list[str | None] = []
    for winner, (budget_ms, trial) in zip(winners, kept, strict=True):
        best = best_trained(context, [winner, *reversed(final), *compared], budget_ms)
        if best is not winner:
            log.info(
                "%s is better than trial %d when both are fully trained, and keeps the budget: it becomes the winner",
                best.name, trial.number,
            )  # fmt: skip
        final.append(replace(best, name=winner.name))
        replaced_by.append(None if best is winner else best.name)
    # nothing is left to decide: the test split may be read
    baseline_rows = rows_of(compared, "baseline", context.trainer)
    for winner, other, (budget_ms, trial) in zip(final, replaced_by, kept, strict=True):
        rows = rows_of([winner], "winner", context.trainer) + [dict(row) for row in baseline_rows]
        search = {
            **describe(budget_ms), "chosen_trial": trial.number, "chosen_estimate": trial.accuracy,
            "chosen_grade": trial.fidelity, "chosen_predicted_ms": trial.latency_ms, "replaced_by": other,
        }  # fmt: skip
        folder = winner_folder(context.run, config, budget_ms)
        write_winner(context, [winner, *compared], rows, folder, budget_ms, training.recipe, search)
    if config.budgets_ms:
        _copy_files(winner_folder(context.run, config, kept[-1][0]), context.run.winner)


def _name(config: RunConfig, budget_ms: float | None) -> str:
    """The name of a budget's winner."""
    return f"winner-{budget_ms:.15g}ms" if config.budgets_ms else "winner"


def _copy_files(source: Path, target: Path) -> None:
    """Copy a winner's files, metrics.json last: a folder that has it is complete."""
    (target / "metrics.json").unlink(missing_ok=True)
    files = [path for path in source.iterdir() if not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: path.name == "metrics.json"):
        write_atomic(target / path.name, path.read_bytes())
