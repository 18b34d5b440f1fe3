"""leaderboard.csv of a run: every candidate, contender and baseline, one row a network, the best first."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnas.io.files import write_atomic
from mnas.io.size import written
from mnas.latency.model import PREDICTED
from mnas.pipeline.context import Context
from mnas.pipeline.kind import J, Judged, SearchKind
from mnas.pipeline.race import Contender
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.space.dense import Outputs
from mnas.space.narrowing import WITHOUT
from mnas.study.trial import Trial, standard_error

COLUMNS = (
    "name", "resolution", "width", "madds", "params", "latency_predicted_ms", "latency_measured_ms", "accuracy",
    "accuracy_kind", "spread", "epochs", "seconds", "state",
)  # fmt: skip
"""Accuracies and spreads are shares (0..1), the spread half the width of the 95% interval by the number of images.

Of segmentation and detection the mIoU or the mAP stands in the accuracy's place.
"""

STATES = (
    "winner", "baseline", "finished", "racing", "dropped", "complete", "diverged", "pruned", "failed", "over_budget",
    "repeated",
)  # fmt: skip
"""How far a network came, from the best to the worst: the rows are in this order, within it by accuracy.

Of a race: finished (trained to the end), racing, dropped (after `epochs` epochs), diverged. Of the search, the states
of trials.jsonl.
"""


Race = tuple[Sequence[Contender], Sequence[Mapping[str, Any]]]
"""The contenders of a race, and its rungs so far as races.jsonl has them."""


@dataclass(frozen=True)
class Score:
    """An accuracy, and how it was found."""

    accuracy: float | None = None
    """0..1; of the kind zero-cost a score without unit."""
    kind: str = ""
    """test; validation (in a race); or a candidate's: trained, inherited, fine-tuned, zero-cost, own."""
    spread: float | None = None
    """Half the width of its 95% interval."""
    epochs: int | None = None
    """Epochs of the full training."""
    seconds: float | None = None
    """Time of the training or the estimate."""


@dataclass(frozen=True)
class LeaderboardRow:
    """One network of a run."""

    name: str
    architecture: Architecture
    state: str
    """One of STATES."""
    score: Score = Score()
    predicted_ms: float | None = None
    """By the search's latency model."""
    measured_ms: float | None = None
    """As a whole network on the (first) device, at its table's speed."""


def write_leaderboard(path: str | Path, rows: Iterable[LeaderboardRow], num_classes: Outputs) -> None:
    """Write `rows` as a CSV file, whole or not at all: one row a network (see `merged`), sorted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(merged(rows), key=_key):
        counted, score = cost(row.architecture, num_classes), row.score
        writer.writerow([
            row.name, written(row.architecture.resolution), _width(row.name), counted.madds, counted.params,
            _rounded(row.predicted_ms, 4), _rounded(row.measured_ms, 4), _rounded(score.accuracy, 6), score.kind,
            _rounded(score.spread, 6), score.epochs, _rounded(score.seconds, 1), row.state,
        ])  # fmt: skip
    write_atomic(path, text.getvalue())


def merged(rows: Iterable[LeaderboardRow]) -> list[LeaderboardRow]:
    """One row a network: the furthest of its states (of equal ones the last), with its first name and all latencies."""
    found: dict[Architecture, LeaderboardRow] = {}
    for row in rows:
        known = found.get(row.architecture)
        if known is None:
            found[row.architecture] = row
            continue
        best = known if STATES.index(known.state) < STATES.index(row.state) else row
        other = row if best is known else known
        found[row.architecture] = replace(
            best, name=known.name, predicted_ms=other.predicted_ms if best.predicted_ms is None else best.predicted_ms,
            measured_ms=other.measured_ms if best.measured_ms is None else best.measured_ms,
        )  # fmt: skip
    return list(found.values())


def _key(row: LeaderboardRow) -> tuple[int, int, float, float]:
    """Further states first, then more epochs, where dropped; then accuracy, then the faster."""
    accuracy = -math.inf if row.score.accuracy is None else row.score.accuracy
    epochs = row.score.epochs or 0 if row.state == "dropped" else 0
    ms = row.predicted_ms if row.measured_ms is None else row.measured_ms
    return STATES.index(row.state), -epochs, -accuracy, math.inf if ms is None else ms


def _width(name: str) -> float | None:
    """The width multiplier in the name of a reference network; a found network has no single one."""
    reference, _, scale = re.split("[:/]", name.partition(WITHOUT)[0])[0].partition("@")
    if reference not in zoo.names():
        return None
    return float(scale) if scale else 1.0


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


# --- the rows of a run


def trial_rows(trials: Iterable[Trial]) -> list[LeaderboardRow]:
    """The candidates of the search, the reference networks among them."""
    return [
        LeaderboardRow(
            trial.name or f"trial {trial.number}", trial.architecture, trial.state,
            Score(trial.accuracy, trial.fidelity, trial.spread, seconds=trial.seconds if trial.evaluated else None),
            predicted_ms=trial.latency_ms,
        )
        for trial in trials
    ]  # fmt: skip


def race_rows(
    entered: Sequence[Contender], rungs: Sequence[Mapping[str, Any]], finished: Mapping[str, Score] | None = None,
    val_images: int = 0,
) -> list[LeaderboardRow]:  # fmt: skip
    """The contenders of a race.

    `rungs` are those so far, as races.jsonl has them: each contender's epochs, accuracy and seconds,
    the survivors' names. `finished` has the scores of those that were trained to the end.
    """
    rows = []
    for contender in entered:
        state, score = "racing", Score()
        for rung in rungs:
            accuracy = rung["accuracies"].get(contender.name)
            if contender.name in rung["accuracies"]:
                seconds = rung.get("seconds", {}).get(contender.name)
                score = validation_score(accuracy, val_images, rung["epochs"][contender.name], seconds)
                survived = contender.name in rung["survivors"]
                state = "racing" if survived else "diverged" if accuracy is None else "dropped"
        if finished is not None and state == "racing":
            state, score = ("finished", finished[contender.name]) if contender.name in finished else ("diverged", score)
        measured = None if contender.latency.rounds == PREDICTED else contender.latency.median_ms
        predicted = contender.latency.median_ms if measured is None else None
        rows.append(LeaderboardRow(contender.name, contender.architecture, state, score, predicted, measured))
    return rows


def validation_score(accuracy: float | None, val_images: int, epochs: int, seconds: float | None) -> Score:
    """The score of a full training on the search-validation split; None where it diverged."""
    spread = None if accuracy is None or not val_images else 1.96 * standard_error(accuracy, val_images)
    return Score(accuracy, "" if accuracy is None else "validation", spread, epochs, seconds)


def final_rows(
    kind: SearchKind[J], networks: Sequence[Judged[J]], metrics: Sequence[Mapping[str, Any]]
) -> list[LeaderboardRow]:  # fmt: skip
    """The winner and the baselines; `metrics` are their entries in metrics.json, in the same order."""
    rows = []
    for network, row in zip(networks, metrics, strict=True):
        trained, spread = network.trained, kind.spread(network)
        accuracy, latency = row[f"test_{kind.figure}"], row["latencies"][0]
        measured, ms = latency["how"] == "measured", latency["latency_ms"]
        rows.append(LeaderboardRow(
            trained.name, trained.architecture, row["role"],
            Score(accuracy, "test", spread, trained.epochs, trained.seconds),
            predicted_ms=None if measured else ms, measured_ms=ms if measured else None,
        ))  # fmt: skip
    return rows


def update_leaderboard(context: Context, races: Iterable[Race], others: Iterable[LeaderboardRow] = ()) -> None:
    """Write a run's leaderboard.csv: its trials, the races as far as they are, and `others`."""
    task = context.trainer.task
    rows = trial_rows(Trial.from_json(record) for record in context.run.read_trials())
    for entered, rungs in races:
        rows += race_rows(entered, rungs, val_images=task.counted or 0)
    write_leaderboard(context.run.leaderboard_path, [*rows, *others], task.outputs)
