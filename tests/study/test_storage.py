"""A study's database, its name, and its recovery from trials.jsonl."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from damage import KINDS, damage
from optuna.trial import TrialState
from small_study import tiny_space

from mnas.errors import BadInput, MnasError
from mnas.run import Run
from mnas.study.database import open_storage
from mnas.study.storage import (
    choices_of,
    open_study,
    reconcile,
    storage_errors,
    tell,
    unfinished,
    whole_study,
    written_trials,
)
from mnas.study.trial import Trial


def opened(run: Run, url: str | None = None) -> optuna.Study:
    return open_study(
        run, None if url is None else open_storage(url), directions=["maximize"],
        sampler=optuna.samplers.RandomSampler(seed=0), prune_after=0,
    )  # fmt: skip


def test_a_study_is_found_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(storage=open_storage(url), study_name="mnas")
    assert [study.study_name for study in open_storage(url).get_all_studies()] == ["mnas"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////nowhere/study.db", "sqlite:////nowhere/study.db"),
        ("nonsense", "nonsense"),
        ("nonsense://me:secret@localhost/nas", r"nonsense://me:\*\*\*@localhost/nas"),
        ("postgresql://me:secret@localhost:no/nas", r"postgresql://me:\*\*\*@localhost:no/nas"),
        ("postgresql+psycopg://me:secret@localhost:9/nas", r"\*\*\*@localhost:9/nas"),
    ],
)
def test_what_cannot_be_opened_is_named_without_its_password(url: str, shown: str) -> None:
    with pytest.raises(BadInput, match=shown) as raised:
        open_storage(url)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_driver_says_what_installs_it() -> None:
    with pytest.raises(BadInput, match="pip install mysqlclient"):
        open_storage("mysql://me@localhost/nas")


def test_the_name_of_a_study(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert opened(run).study_name == "mnas"
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    assert opened(run, url).study_name == run.state().study == tmp_path.name
    run.update_state(study="as-it-was")
    assert opened(run, url).study_name == "as-it-was"


def test_a_study_that_cannot_be_written_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(MnasError, match=r"study\.db.*disk is full.*mnas resume"), storage_errors(tmp_path):
        raise optuna.exceptions.StorageInternalError from OSError("disk is full")


def test_a_shared_database_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    shared = open_storage(f"sqlite:///{tmp_path / 'shared.db'}")
    with pytest.raises(MnasError, match=r"^sqlite:.*shared\.db.*mnas resume"), storage_errors(tmp_path, shared):
        raise optuna.exceptions.StorageInternalError from OSError("disk is full")


ARCHS = list(tiny_space().enumerate())[:5]


def study_of(run: Run, written: Sequence[Trial]) -> optuna.Study:
    """The study of a run, brought to the trials in its trials.jsonl."""
    study = whole_study(run, lambda: opened(run), written, tiny_space(), values_of)
    reconcile(study, written, tiny_space(), values_of)
    return study


WRITTEN = [Trial(number, "complete", arch, 1.0, 0.5 + 0.1 * number) for number, arch in enumerate(ARCHS)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A study.db as a process that ended leaves it."""
    folder = tmp_path_factory.mktemp("whole")
    study_of(Run(folder), WRITTEN)
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / "study.db").read_bytes()


@pytest.mark.parametrize("kind", [*KINDS, "text", "changed value", "changed choice"])
def test_a_damaged_study_is_named_and_made_anew(
    kind: str, whole: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, path, written = Run(tmp_path), tmp_path / "study.db", WRITTEN
    path.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        if kind == "changed value":
            database.execute("UPDATE trial_values SET value = 0.9 WHERE trial_id = 2")
        elif kind == "changed choice":
            database.execute("UPDATE trial_params SET param_value = 1 - param_value WHERE trial_id = 2")
    if kind == "text":
        path.write_text("no database " * 100)
    elif kind in KINDS:
        damage(path, kind)
    found = study_of(run, written)
    assert [trial.values for trial in found.get_trials()] == [[trial.accuracy] for trial in written]
    assert [tiny_space().decode(trial.params) for trial in found.get_trials()] == ARCHS
    if kind in ("text", "changed value", "changed choice", "cut in half"):
        assert f"{path}: damaged" in caplog.text and path.with_name("study.db.damaged").exists()


def test_a_whole_study_is_not_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, states = Run(tmp_path), ("complete", "pruned", "over_budget", "failed", "repeated")
    written = [Trial(i, state, arch, 1.0, 0.5) for i, (state, arch) in enumerate(zip(states, ARCHS, strict=True))]
    study = study_of(run, [])
    for _ in written:
        asked = study.ask()
        tiny_space().suggest(asked)
        asked.report(0.3, 1)
    told = [replace(trial, architecture=tiny_space().decode(study.trials[trial.number].params)) for trial in written]
    for trial in told:
        tell(study, trial, values_of(trial))
    before = study.get_trials()
    assert study_of(run, told).get_trials() == before
    assert "damaged" not in caplog.text and not (tmp_path / "study.db.damaged").exists()


def values_of(trial: Trial) -> list[float] | None:
    return None if trial.accuracy is None or trial.state == "pruned" else [trial.accuracy]


@pytest.mark.parametrize(("trial", "state"), [
    (Trial(0, "complete", ARCHS[0], 1.0, 0.5), TrialState.COMPLETE),
    (Trial(0, "repeated", ARCHS[0], 1.0, 0.5), TrialState.COMPLETE),
    (Trial(0, "pruned", ARCHS[0], 1.0, 0.5), TrialState.PRUNED),
    (Trial(0, "over_budget", ARCHS[0], 9.0), TrialState.PRUNED),
    (Trial(0, "failed", ARCHS[0], 1.0), TrialState.FAIL),
])  # fmt: skip
def test_a_trial_is_told(trial: Trial, state: TrialState) -> None:
    study = optuna.create_study(direction="maximize")
    tiny_space().suggest(study.ask())
    tell(study, trial, values_of(trial))
    (frozen,) = study.get_trials()
    assert (frozen.state, frozen.values) == (state, [0.5] if state == TrialState.COMPLETE else None)


def test_an_interrupted_study_is_brought_to_the_written_trials() -> None:
    """Number 0 was told, 1 was written and not told, 2 was cut off, 3 to 5 were lost; 4 was never written."""
    space, study = tiny_space(), optuna.create_study(direction="maximize")
    asked = [study.ask() for _ in range(3)]
    archs = [space.suggest(trial) for trial in asked]
    written = [
        Trial(0, "complete", archs[0], 1.0, 0.5), Trial(1, "complete", archs[1], 1.0, 0.6),
        Trial(3, "pruned", ARCHS[3], 1.0, 0.1), Trial(5, "complete", ARCHS[4], 1.0, 0.7),
    ]  # fmt: skip
    study.tell(0, 0.5)
    reconcile(study, written, space, values_of)
    trials = study.get_trials()
    states = [trial.state for trial in trials]
    complete, fail, running = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING
    assert states == [complete, complete, running, fail, fail, complete]
    (cut_off,) = unfinished(study)
    assert space.decode(choices_of(cut_off)) == archs[2], "asked for again"
    assert [trials[number].value for number in (0, 1, 5)] == [0.5, 0.6, 0.7]
    assert space.decode(trials[5].params) == ARCHS[4]


def test_written_trials(tmp_path: Path) -> None:
    run, trials = Run(tmp_path), [Trial(number, "complete", arch, 1.0, 0.5) for number, arch in enumerate(ARCHS)]
    for trial in trials:
        run.append_trial(trial.to_json())
    run.append_trial(trials[0].to_json(), run.random_trials_path)
    assert written_trials(run) == trials
    assert written_trials(run, run.random_trials_path) == trials[:1]
