"""What a report tells, gathered from a run's own files, however far the run is; none of them is changed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.config import RunConfig
from mnas.errors import BadInput
from mnas.export.folder import ARCHITECTURE_FILE, METRICS_FILE
from mnas.export.preprocessing import PREPROCESSING_FILE
from mnas.io.files import read_json
from mnas.io.jsonl import read_records
from mnas.io.names import file_stem
from mnas.io.strict_yaml import load_yaml, read_text
from mnas.monitor.curves import Curves, training_curves
from mnas.monitor.figures import NAMES
from mnas.pipeline.kinds import kind_of
from mnas.pipeline.mistakes import read_mistakes
from mnas.pipeline.winners import winner_folder
from mnas.run import Run, RunState
from mnas.space.architecture import Architecture
from mnas.space.dense import DenseHead, Outputs
from mnas.study.trial import Trial
from mnas.tasks.kinds import KINDS


@dataclass(frozen=True)
class Handed:
    """A winner, as its folder has it."""

    name: str
    folder: Path
    budget_ms: float | None
    architecture: Architecture
    classes: Sequence[str]
    metrics: Mapping[str, Any]
    mistakes: Mapping[str, Any]
    """As `read_mistakes` gives them."""
    benchmark: Mapping[str, Any]
    """benchmark.json, whose `rows` are one a format and precision; empty where nobody made it."""

    @property
    def outputs(self) -> Outputs:
        """What the network gives: scores of so many classes, or what its head does."""
        if "head" not in self.metrics:
            return len(self.classes)
        classes = len(self.classes) + KINDS[self.metrics["task"]].background
        return DenseHead(self.metrics["head"], classes, self.metrics["output_stride"])


@dataclass(frozen=True)
class RaceFacts:
    """A race, as races.jsonl has it."""

    budget_ms: float | None
    contenders: Sequence[Mapping[str, Any]]
    rungs: Sequence[Mapping[str, Any]]

    def epochs(self, contender: Mapping[str, Any]) -> int:
        """The epochs of a contender's whole training, as the last rung has them."""
        stated = [rung["survivors"].get(contender["name"]) for rung in self.rungs]
        return int([contender["epochs"], *(epochs for epochs in stated if epochs)][-1])


@dataclass(frozen=True)
class Searched:
    """The trials of a run."""

    trials: Sequence[Trial]
    random: Sequence[Trial]
    """Of the random search beside it."""
    leaderboard: Sequence[Mapping[str, str]]
    """Rows of leaderboard.csv; empty before the first race."""


@dataclass(frozen=True)
class Facts:
    """All that a report tells of a run."""

    run: Run
    config: RunConfig
    about: Mapping[str, Any]
    """The content of config.yaml."""
    state: RunState
    searched: Searched
    races: Sequence[RaceFacts]
    winners: Sequence[Handed]
    curves: Curves

    @property
    def figure(self) -> str:
        """The figure that decided: accuracy, miou or map."""
        return kind_of(self.config).figure

    @property
    def figure_name(self) -> str:
        """As people have it."""
        return NAMES[self.figure]


def gather(run: Run) -> Facts:
    """The facts of a run. Raises BadInput for a damaged file, and for a folder that holds a supernet alone."""
    config = run.config()
    if config.supernet_alone:
        raise BadInput(
            f"{run.folder}: holds a supernet, not a search; mnas search --supernet {run.folder} searches in it"
        )
    return Facts(
        run, config, load_yaml(run.config_path), run.state(), _searched(run), _races(run),
        [_handed(run, config, ms) for ms in config.wanted_ms
         if (winner_folder(run, config, ms) / METRICS_FILE).exists()],
        training_curves(run.tensorboard),
    )  # fmt: skip


def _searched(run: Run) -> Searched:
    board = run.leaderboard_path
    rows = list(csv.DictReader(io.StringIO(read_text(board)))) if board.exists() else []
    return Searched(_trials(run.trials_path), _trials(run.random_trials_path), rows)


def _trials(path: Path) -> list[Trial]:
    return [Trial.from_json(record) for record in read_records(path, repair=False)]


def _races(run: Run) -> list[RaceFacts]:
    records = read_records(run.races_path, repair=False)
    return [
        RaceFacts(one.get("budget_ms"), one["contenders"], [
            rung for rung in records if "survivors" in rung and rung.get("budget_ms") == one.get("budget_ms")
        ])
        for one in records if "contenders" in one
    ]  # fmt: skip


def _handed(run: Run, config: RunConfig, budget_ms: float | None) -> Handed:
    folder = winner_folder(run, config, budget_ms)
    metrics, path = read_json(folder / METRICS_FILE, "networks", "accuracy"), folder / ARCHITECTURE_FILE
    name = str(metrics["networks"][0]["name"])
    return Handed(
        name, folder, budget_ms, Architecture.from_yaml(read_text(path), str(path)),
        _classes(folder, metrics), metrics,
        read_mistakes(run.mistakes / f"{file_stem(name)}.json"),
        _benchmark(folder / "benchmark.json"),
    )  # fmt: skip


def _classes(folder: Path, metrics: Mapping[str, Any]) -> Sequence[str]:
    """The names of the classes, which metrics.json has of networks with a head."""
    classes: Sequence[str] = (metrics.get("data") or read_json(folder / PREPROCESSING_FILE, "classes"))["classes"]
    return classes


def _benchmark(path: Path) -> Mapping[str, Any]:
    """The table of formats and precisions, with its rows alone that are some; a file of another kind has none."""
    try:
        content = json.loads(read_text(path)) if path.exists() else []
    except (ValueError, RecursionError, BadInput):
        return {}
    about = content if isinstance(content, dict) else {"rows": content}
    listed = about.get("rows")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return {**about, "rows": rows} if rows else {}
