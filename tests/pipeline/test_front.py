"""Finished trials handed over on demand, in a real run of a small space."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Mnas
from small_search import QUICK, TINY_SPACE, milliseconds
from small_search import read as read_events

import mnas as package
from mnas.errors import BadInput, RunLocked
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.context import Overrides
from mnas.pipeline.front import hand_over_trials
from mnas.pipeline.race import Contender
from mnas.pipeline.search import open_run
from mnas.pipeline.trainings import Leg, Trainings
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.analysis import front_of
from mnas.study.trial import Trial
from mnas.training.distributed import SINGLE
from mnas.training.full import FullTraining

EPOCHS = 4


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("front")
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    package.search(
        space=folder / "tiny.yaml", latency_ms=0.6, trials=6, run=folder / "run", estimator="zero_cost",
        latency=milliseconds, set={**QUICK, "recipe.epochs": EPOCHS, "references": 2},
    )  # fmt: skip
    return folder / "run"


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Run:
    """A copy of the run that a test may change."""
    shutil.copytree(searched, tmp_path / "run")
    return Run.open(tmp_path / "run")


def trials(run: Run) -> list[Trial]:
    return [Trial.from_json(record) for record in run.read_trials()]


def numbers(run: Run, *, entered: bool) -> list[int]:
    """The finished trials that were, or were not, in the race."""
    record = json.loads(run.races_path.read_text().splitlines()[0])
    raced = {contender["trial"] for contender in record["contenders"]}
    return [trial.number for trial in trials(run) if trial.state == "complete" and (trial.number in raced) == entered]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name and epochs of each training that is continued or begun."""
    seen: list[tuple[str, int]] = []
    advance = FullTraining.advance

    def spied(self: FullTraining, epochs: int) -> Any:
        saved = self._load()
        if saved is None or not saved["finished"]:
            seen.append((self.name, 0 if saved is None else saved["epochs"]))
        return advance(self, epochs)

    monkeypatch.setattr(FullTraining, "advance", spied)
    return seen


@pytest.mark.usefixtures("without_pictures")
def test_a_trial_is_trained_once(mnas: Mnas, run: Run, trained: list[tuple[str, int]]) -> None:
    number = numbers(run, entered=False)[0]
    done = mnas("export", run.folder, "--trial", number, "--json")
    assert done.code == 0, done.err
    (one,) = done.json["exported"]
    assert trained == [(f"trial {number}", 0)]
    assert (one["trial"], Path(one["folder"])) == (number, run.front / f"trial-{number}")
    row = one["networks"][0]
    assert (row["epochs"], row["weights"], row["role"]) == (EPOCHS, "scratch", "trained")
    wanted = next(trial for trial in trials(run) if trial.number == number)
    folder = run.front / f"trial-{number}"
    assert Architecture.from_yaml((folder / "architecture.yaml").read_text()) == wanted.architecture
    assert row["latency_ms"] == wanted.latency_ms, "the run's own latency function is no longer there"
    assert sum(row["images"] for row in one["per_class"]) == 359
    assert "the winner" not in (folder / "README.md").read_text()
    assert mnas("evaluate", folder, "--json").json["accuracy"] == row["test_accuracy"]
    again = mnas("export", run.folder, "--trial", number)
    assert (again.code, len(trained)) == (0, 1)
    assert f"trial-{number}" in again.out
    assert f"{row['test_accuracy']:.2%}" in again.out


@pytest.mark.usefixtures("without_pictures")
def test_a_training_is_continued(run: Run, trained: list[tuple[str, int]]) -> None:
    """As that of a contender that a rung dropped, or of an export that was killed."""
    trial = next(one for one in trials(run) if one.number == numbers(run, entered=False)[0])
    context, _ = open_run(run, run.config(), Overrides(latency=milliseconds), SINGLE)
    recipe = run.state().recipe
    assert recipe is not None
    contender = Contender("dropped", trial.architecture, "found", Measurement(1.0, 0.0, 1), trial=trial.number)
    trainer = context.trainer.at_full_size()
    Trainings(trainer, None, run.checkpoints).run(Leg(contender, recipe, 2, trainer.seed))
    (one,) = hand_over_trials(run, [trial.number])
    assert trained == [("dropped", 0), (f"trial {trial.number}", 2)]
    assert one["networks"][0]["epochs"] == EPOCHS


@pytest.mark.usefixtures("without_pictures")
def test_the_whole_front(mnas: Mnas, run: Run, tmp_path: Path) -> None:
    done = mnas("export", run.folder, "--front", "-o", "all", "--json")
    assert done.code == 0, done.err
    front = front_of(trials(run))
    assert [one["trial"] for one in done.json["exported"]] == [trial.number for trial in front]
    assert {path.name for path in (tmp_path / "all").iterdir()} == {f"trial-{trial.number}" for trial in front}
    assert all((tmp_path / "all" / f"trial-{trial.number}" / "model.py").exists() for trial in front)
    assert not run.front.exists()
    refused = mnas("export", run.folder, "--front", "-o", "all")
    assert (refused.code, "not empty" in refused.err) == (2, True)


def test_the_leaderboard_has_every_network(run: Run) -> None:
    with run.leaderboard_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["state"] == "winner"
    names = {row["name"] for row in rows}
    record = json.loads(run.races_path.read_text().splitlines()[0])
    archs = {trial.architecture for trial in trials(run)}
    assert {contender["name"] for contender in record["contenders"]} <= names
    references = [one for one in record["contenders"] if one["kind"] == "reference"]
    assert len(rows) == len(archs | {Architecture.from_dict(one["architecture"], "x") for one in references})
    metrics = json.loads((run.winner / "metrics.json").read_text())
    assert float(rows[0]["accuracy"]) == pytest.approx(metrics["networks"][0]["test_accuracy"], abs=1e-6)
    assert rows[0]["name"] == metrics["search"]["winner"]


def test_the_search_itself_leaves_the_evidence(run: Run) -> None:
    metrics = json.loads((run.winner / "metrics.json").read_text())
    matrix = metrics["confusion"]["matrix"]
    assert sum(map(sum, matrix)) == 359
    assert sum(matrix[i][i] for i in range(10)) == sum(row["correct"] for row in metrics["per_class"])
    assert metrics["networks"][0]["test_accuracy"] == sum(row["correct"] for row in metrics["per_class"]) / 359
    assert [one["baseline"] for one in metrics["verdicts"]] == [row["name"] for row in metrics["networks"][1:]]
    assert all(row["seeds"]["accuracies"] == [row["test_accuracy"]] for row in metrics["networks"])
    assert "confusion_winner" in read_events(run.tensorboard).Tags()["images"]
    assert "## Accuracy by class" in (run.winner / "README.md").read_text()


def test_what_can_not_be_exported(mnas: Mnas, run: Run) -> None:
    over = next(trial.number for trial in trials(run) if trial.state == "over_budget")
    finished = numbers(run, entered=True)[0]
    for number, words in ((over, "over budget"), (999, "no such trial")):
        refused = mnas("export", run.folder, "--trial", number)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert words in refused.err and "front: " in refused.err and "leaderboard.csv" in refused.err
    for options, words in (
        (("--trial", finished, "--front"), "--front"), (("--trial", finished, "--format", "onnx"), "--format onnx"),
        (("--front", "--format", "pytorch"), "--front"), (("--trial", "-1"), "--trial"),
    ):  # fmt: skip
        refused = mnas("export", run.folder, *options)
        assert (refused.code, words in refused.err) == (2, True)
    full = mnas("export", run.folder, "--trial", finished, "-o", run.winner)
    assert (full.code, "not empty" in full.err) == (2, True)
    assert mnas("export", run.winner, "--trial", finished).code == 2, "no run's folder"
    assert not run.front.exists()


def test_a_run_that_is_not_ready(run: Run) -> None:
    finished = numbers(run, entered=True)[:1]
    with run.lock(), pytest.raises(RunLocked):
        hand_over_trials(run, finished)
    run.update_state(searched=False)
    with pytest.raises(BadInput, match="mnas resume"):
        hand_over_trials(run, finished)


@pytest.mark.usefixtures("without_pictures")
def test_data_from_python(search: Callable[..., package.Result]) -> None:
    result = search(
        data=package.load_data("digits"), estimator="zero_cost", set={**QUICK, "recipe.epochs": 1}, trials=2,
        seeds=2,
    )  # fmt: skip
    number = next(trial.number for trial in result.trials if trial.state == "complete")
    assert Run.open(result.folder).config().seeds == 2
    with pytest.raises(BadInput, match="--data"):
        hand_over_trials(Run.open(result.folder), [number])
