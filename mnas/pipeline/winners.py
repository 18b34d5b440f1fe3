"""What follows a search: for each budget a winner chosen, trained, compared with the baselines, written, read back."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mnas.config import Recipe, RunConfig
from mnas.data.splits import limited
from mnas.errors import Infeasible
from mnas.estimators.weight_sharing import WeightSharing
from mnas.export.folder import load_model, write_metrics, write_model
from mnas.io.files import write_atomic
from mnas.io.strict_yaml import read_text
from mnas.io.versions import versions
from mnas.latency.model import LatencySource, within
from mnas.monitor.tensorboard import TensorBoard, markdown_table
from mnas.nn.network import Network
from mnas.pipeline.finalists import best_by_fine_tuning, finalists, most_accurate
from mnas.pipeline.metrics import add_all_latencies, rows_of
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace
from mnas.study.analysis import front_of
from mnas.study.constraints import Constraints
from mnas.study.trial import Trial
from mnas.training.task import Task
from mnas.training.trainer import Trained, train_fully

log = logging.getLogger("mnas")

Facts = Callable[[float | None], dict[str, Any]]
"""What metrics.json says of the search in the folder of this budget's winner."""


@dataclass(frozen=True)
class Winner:
    """An architecture that a run hands over, trained."""

    architecture: Architecture
    folder: Path
    """model.py, weights, ONNX, metrics: see the README in it."""
    test_accuracy: float
    latency_ms: float
    """As a whole network on the (first) device, measured; or its table's word where the device is not here."""
    budget_ms: float | None = None
    """What it keeps there; None where no budget was given."""
    metrics: dict[str, Any] = field(default_factory=dict, repr=False)
    """What its metrics.json holds."""

    def load(self) -> Network:
        """The trained network in eval mode."""
        return load_model(self.folder)[0]


@dataclass(frozen=True)
class Result:
    """What a search gives back."""

    winner: Winner
    """The last of `winners`."""
    winners: tuple[Winner, ...]
    """One for each budget of one device, fastest first; usually a single one."""
    front: list[Trial]
    """Finished trials that no other beats in accuracy and latency, from fast to slow."""
    trials: list[Trial]
    metrics: dict[str, Any]
    """What winner/metrics.json holds."""
    folder: Path


def result_of(run: Run, config: RunConfig) -> Result:
    """What a finished run's files say."""
    trials = [Trial.from_json(record) for record in run.read_trials()]
    winners = tuple(_winner(_folder(run, config, budget_ms), budget_ms) for budget_ms in config.wanted_ms)
    return Result(winners[-1], winners, front_of(trials), trials, winners[-1].metrics, run.folder)


def _winner(folder: Path, budget_ms: float | None) -> Winner:
    metrics = json.loads(read_text(folder / "metrics.json"))
    path, row = folder / "architecture.yaml", metrics["networks"][0]
    arch = Architecture.from_yaml(read_text(path), str(path))
    return Winner(arch, folder, row["test_accuracy"], row["latency_ms"], budget_ms, metrics)


def _folder(run: Run, config: RunConfig, budget_ms: float | None) -> Path:
    """Of a budget's winner."""
    folder: Path = run.winners / f"{budget_ms:.15g}ms" if config.budgets_ms else run.winner
    return folder




@dataclass(frozen=True)
class Handover:
    """The end of one run; each step finds what an earlier process finished."""

    run: Run
    config: RunConfig
    space: SearchSpace
    task: Task
    latency: LatencySource
    constraints: Constraints
    sharing: WeightSharing | None
    board: TensorBoard
    device: torch.device
    each: Callable[[], None] = lambda: None
    """Called after each training."""

    # --- choosing

    def choose(self, trials: Sequence[Trial], proxy: Recipe) -> list[Trial | None]:
        """The best candidate for each budget; measured once, since another measurement might choose another.

        None where no candidate keeps the budget; raises Infeasible where none keeps any.
        """
        known = {trial.number: trial for trial in trials}
        numbers = dict(enumerate(self.run.read_state().get("winner_trials", [])))
        chosen: list[Trial | None] = []
        missed: Infeasible | None = None
        for index, budget_ms in enumerate(self.config.wanted_ms):
            best = known.get(numbers.get(index, -1))
            try:
                chosen.append(best or self._best(trials, budget_ms, proxy))
            except Infeasible as error:
                if self.config.budgets_ms:
                    log.warning("%s", error)
                missed = error
                chosen.append(None)
            self.run.write_state(winner_trials=[None if trial is None else trial.number for trial in chosen])
        if missed is not None and not any(chosen):
            raise missed
        return chosen

    def _best(self, trials: Sequence[Trial], budget_ms: float | None, proxy: Recipe) -> Trial:
        if self.config.budgets_ms:
            log.info("finalists for %g ms:", budget_ms)
            limit_ms = (budget_ms or 0) * self.config.objective.evaluate_up_to
            trials = [trial for trial in trials if trial.latency_ms <= limit_ms]
        kept = finalists(trials, self.latency.measure, budget_ms, self.config.finalists)
        if self.sharing is None:
            return kept[0]
        return best_by_fine_tuning(kept, self.sharing, proxy if self.config.finetune_epochs else None)

    # --- training and writing

    def finish(
        self, chosen: Sequence[Trial | None], baselines: Sequence[tuple[str, Architecture]], recipe: Recipe,
        facts: Facts,
    ) -> None:  # fmt: skip
        """Train the chosen and the baselines, and write each winner's folder; `winner/` is the last one's.

        Raises Infeasible in the end where a budget has none.
        """
        wanted = self.config.wanted_ms
        found = [(budget_ms, trial) for budget_ms, trial in zip(wanted, chosen, strict=True) if trial is not None]
        numbers = ", ".join(str(trial.number) for _, trial in found)
        who = "the winner (trial" if len(found) == 1 else f"{len(found)} winners (trials"
        log.info("training %s %s) and %d baseline(s)", who, numbers, len(baselines))
        winners = [self._trained(self._name(budget_ms), trial.architecture, recipe) for budget_ms, trial in found]
        others = [self._trained(name, arch, recipe) for name, arch in baselines]
        about: dict[str, Any] = {"data": self.task.data, "size_of": self.task.size_of, "device": self.device}
        compared = rows_of(others, "baseline", **about)
        best: list[Trained] = []
        for winner, (budget_ms, trial) in zip(winners, found, strict=True):
            better = self._best_trained(winner, trial, [*reversed(best), *others], budget_ms)
            best.append(replace(better, name=winner.name))
            rows = rows_of(best[-1:], "winner", **about) + [dict(row) for row in compared]
            search = facts(budget_ms) | {
                "chosen_trial": trial.number, "chosen_estimate": trial.accuracy, "chosen_grade": trial.fidelity,
                "chosen_predicted_ms": trial.latency_ms,
                "replaced_by": None if better is winner else better.name,
            }  # fmt: skip
            self._write([best[-1], *others], rows, budget_ms, recipe, search)
        if self.config.budgets_ms:
            _copy(_folder(self.run, self.config, found[-1][0]), self.run.winner)
        if missing := " and ".join(f"{ms:g}" for ms, trial in zip(wanted, chosen, strict=True) if trial is None):
            raise Infeasible(
                f"no candidate keeps {missing} ms as a whole network; the other budgets' winners are in "
                f"{self.run.winners}; if the machine was busy, mnas resume measures again"
            )

    def _name(self, budget_ms: float | None) -> str:
        """What a budget's winner is called."""
        return f"winner-{budget_ms:.15g}ms" if self.config.budgets_ms else "winner"

    def _trained(self, name: str, arch: Architecture, recipe: Recipe) -> Trained:
        """By the same recipe each; what lies in a supernet's space begins with its weights, its largest as teacher."""
        start, sharing = None, self.sharing
        if sharing is not None and not self.config.from_scratch and arch in self.space:
            start, recipe = partial(sharing.start, arch), sharing.recipe(recipe)
        trained = train_fully(
            name, arch, self.task.data, recipe, size=self.task.size_of(arch), device=self.device,
            seed=self.config.seed, checkpoints=self.run.checkpoints, board=self.board, start=start,
        )  # fmt: skip
        self.each()
        return trained

    def _best_trained(
        self, winner: Trained, trial: Trial, others: Sequence[Trained], budget_ms: float | None
    ) -> Trained:
        """The winner, or what is more accurate within its budget: a smaller budget's winner, or a baseline."""
        best = most_accurate([winner, *others], self.space, self.latency.measure, budget_ms, self.constraints)
        if best is not winner:
            log.info("%s is more accurate than trial %d when both are fully trained, and keeps the budget: it is the "
                     "winner", best.name, trial.number)
        return best

    def _write(
        self, trained: Sequence[Trained], rows: list[dict[str, Any]], budget_ms: float | None, recipe: Recipe,
        search: dict[str, Any],
    ) -> None:  # fmt: skip
        """One winner's folder; it is the first of `trained`."""
        folder, data = _folder(self.run, self.config, budget_ms), self.task.data
        size, notes = self.task.size_of(trained[0].architecture), self.task.notes()
        title = f"{self.space.name} {trained[0].name}"
        write_model(folder, trained[0], data, size=size, title=title, notes=notes)
        latency = within(self.latency, budget_ms) if self.config.budgets_ms else self.latency
        add_all_latencies(rows, trained, folder, latency, self.config.seed)
        metrics = {
            "title": title, "notes": notes, **self._metrics(rows, recipe, size), "search": search,
            "versions": versions(), "date": datetime.date.today().isoformat(),
        }  # fmt: skip
        write_metrics(folder, metrics, data.classes)
        architecture = f"\n```yaml\n{trained[0].architecture.to_yaml()}```\n"
        self.board.text(trained[0].name, markdown_table(rows[0]) + architecture)
        log.info("%s: %s", trained[0].name, folder)

    def _metrics(self, rows: list[dict[str, Any]], recipe: Recipe, size: int) -> dict[str, Any]:
        first, data = rows[0]["latencies"][0], self.task.data
        named = ("device", "runtime", "threads", "batch", "budget_ms", "how")
        return {
            "networks": rows,
            "latency": {"resolution": rows[0]["resolution"], **{name: first[name] for name in named}},
            "limits": {c.option.removeprefix("--").replace("-", "_"): c.limit for c in self.constraints.items},
            "accuracy": {
                "resolution": size, "data": data.name, "source": self.config.data, "seed": self.config.seed,
                "train_images": len(limited(data.train, recipe.images, self.config.seed)),
                "val_images": len(data.val), "test_images": len(data.test), "epochs": recipe.epochs,
            },
        }  # fmt: skip


def _copy(source: Path, target: Path) -> None:
    """A winner's files into another folder, metrics.json last: what has it is whole."""
    files = [path for path in source.iterdir() if not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: path.name == "metrics.json"):
        write_atomic(target / path.name, path.read_bytes())




