"""The Optuna study of a run: opened, and brought to what trials.jsonl holds after a kill."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnas.errors import BadInput, MnasError, one_line
from mnas.run import Run
from mnas.space.space import SearchSpace
from mnas.study.database import PatientStorage, open_storage, without_password
from mnas.study.trial import Trial

log = logging.getLogger("mnas")

DISK_FAULTS = ("disk is full", "readonly database", "unable to open", "disk I/O error")
"""What SQLite says of a disk that is full, or may not be written to."""
ValuesOf = Callable[[Trial], list[float] | None]
"""A trial's objective values for Optuna; None where it has none."""


# --- opening


def open_study(
    run: Run, shared: PatientStorage | None = None, *, directions: Sequence[str],
    sampler: optuna.samplers.BaseSampler, prune_after: int,
) -> optuna.Study:  # fmt: skip
    """The study of a run, new or as it was left, in the database `shared` or the run's own study.db.

    The median pruner may end a trial after its step `prune_after`. BadInput where the run's own database cannot be
    opened, and where the shared one has a study of this name that another run began.
    """
    state = run.state()
    name = "mnas" if shared is None else state.study or study_name(run.folder)
    is_new = shared is not None and state.study is None
    if is_new:
        run.update_state(study=name)
    try:
        return optuna.create_study(
            storage=shared or open_storage(run.storage_url), study_name=name, load_if_exists=not is_new,
            directions=directions,  # type: ignore[arg-type]
            sampler=sampler, pruner=median_pruner(prune_after),
        )  # fmt: skip
    except optuna.exceptions.DuplicatedStudyError:
        run.update_state(study=None)
        raise BadInput(
            f"--run {run.folder}: the database has a study '{name}' of another run: name another folder, or delete "
            f"that study: optuna delete-study --study-name {name} --storage URL"
        ) from None


def study_name(folder: Path) -> str:
    """The name of a run's study in a database that it shares: that of its folder."""
    return folder.resolve().name


def median_pruner(prune_after: int) -> optuna.pruners.BasePruner:
    """Ends a trial that is below the median of five or more others after its step `prune_after`."""
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=prune_after)


def whole_study(
    run: Run, open_it: Callable[[], optuna.Study], trials: Sequence[Trial], space: SearchSpace, values_of: ValuesOf
) -> optuna.Study:
    """The study that `open_it` opens in the run's own study.db.

    Where that is damaged, or contradicts the written `trials`, it is set aside with a warning and opened anew, for
    `reconcile` to fill.
    """
    path = run.folder / "study.db"
    try:
        _check_pages(path)
        study = open_it()
        _check_trials(study, trials, space, values_of)
        return study
    except (MnasError, ValueError, KeyError, TypeError, optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError,
            sqlite3.Error) as error:  # fmt: skip
        why = one_line(str(error).split("\n")[0])
    if any(text in why for text in DISK_FAULTS):
        raise _unwritable(run.folder, why)
    aside = path.with_name(f"{path.name}.damaged")
    _move(path, aside)
    try:
        study = open_it()
    except BaseException:  # such as a full disk
        _move(aside, path)
        raise
    log.warning("%s: damaged, and made anew from trials.jsonl (%s); the damaged one is %s", path, why, aside.name)
    return study


def _move(path: Path, target: Path) -> None:
    """Move a database, with the files that SQLite has beside it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").replace(target.with_name(f"{target.name}{suffix}"))


def _check_pages(path: Path) -> None:
    """Raise ValueError or sqlite3's errors where a database's pages are damaged."""
    if path.exists():
        with contextlib.closing(sqlite3.connect(path)) as database:
            ((found,), *_) = database.execute("PRAGMA integrity_check(1)").fetchall()
        if found != "ok":
            raise ValueError(found)


def _check_trials(study: optuna.Study, trials: Sequence[Trial], space: SearchSpace, values_of: ValuesOf) -> None:
    """Raise ValueError where a finished trial of the study has other values, or a network other than in trials.jsonl.
    """
    frozen = study.get_trials(deepcopy=False)
    for trial in trials:
        told = frozen[trial.number] if trial.number < len(frozen) else None
        if told is None or not told.state.is_finished():
            continue
        complete, values = told.state == TrialState.COMPLETE, values_of(trial)
        if (told.values if complete else None) != values:
            raise ValueError(f"trial {trial.number} has the values {told.values}, and in trials.jsonl {values}")
        if complete and space.decode(told.params) != trial.architecture:
            raise ValueError(f"trial {trial.number} has another network in trials.jsonl")


def _unwritable(folder: Path, why: str) -> BadInput:
    """That the study.db of the run in `folder` cannot be written, and the way out."""
    free = shutil.disk_usage(folder).free
    return BadInput(
        f"{folder / 'study.db'}: cannot be written ({why.splitlines()[0]}; {free:,} bytes are free); the finished "
        f"trials are kept: free some space or make the folder writable, then mnas resume {folder}"
    )


@contextmanager
def storage_errors(folder: Path, shared: PatientStorage | None = None) -> Iterator[None]:
    """Raise BadInput with the way out where the study of the run in `folder` cannot be written.

    It is in the database `shared`, or in the run's own study.db.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.OperationalError) as error:
        why = str(error.__cause__ or error)
        if shared is None:
            raise _unwritable(folder, why) from None
        raise BadInput(
            f"{without_password(shared.url)}: the study cannot be written there ({why.splitlines()[0]}); the finished "
            f"trials are kept: once the database can be written to, mnas resume {folder}"
        ) from None


# --- trials


def written_trials(run: Run, path: Path | None = None) -> list[Trial]:
    """The finished trials in a run's trials.jsonl, or in the file at `path`."""
    return [Trial.from_json(record) for record in run.read_trials(path)]


def tell(study: optuna.Study, trial: Trial, values: list[float] | None) -> None:
    """Finish a trial of the study with its objective values; without any it has failed or was pruned.

    One that is finished stays as it is: this was told, and the answer got lost, or another process ended it.
    """
    if values is not None:
        study.tell(trial.number, values, skip_if_finished=True)
    else:
        state = TrialState.FAIL if trial.state == "failed" else TrialState.PRUNED
        study.tell(trial.number, state=state, skip_if_finished=True)


def choices_of(frozen: FrozenTrial) -> dict[str, Any]:
    """The choices of an unfinished trial: those it was enqueued with, or those it was asked for so far."""
    return dict(frozen.system_attrs.get("fixed_params") or frozen.params)


def reconcile(study: optuna.Study, trials: Sequence[Trial], space: SearchSpace, values_of: ValuesOf) -> None:
    """Bring a study to the state of the written `trials`; a proposal that was cut off stays unfinished."""
    add_lost(study, trials, space, values_of)
    written = {trial.number: trial for trial in trials}
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if frozen.number in written:
            tell(study, written[frozen.number], values_of(written[frozen.number]))


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """The proposals that were cut off, in order."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def add_lost(study: optuna.Study, trials: Sequence[Trial], space: SearchSpace, values_of: ValuesOf) -> None:
    """Add the written `trials` that the study lacks: a loss of power may take the last ones, never those written."""
    written = {trial.number: trial for trial in trials}
    for number in range(len(study.get_trials(deepcopy=False)), max(written, default=-1) + 1):
        trial = written.get(number)
        values = None if trial is None else values_of(trial)
        if trial is None or values is None:
            study.add_trial(create_trial(state=TrialState.FAIL))
        else:
            study.add_trial(_frozen(trial, values, space))


def _frozen(trial: Trial, values: list[float], space: SearchSpace) -> FrozenTrial:
    """A finished trial as Optuna keeps it."""
    options = space.options(trial.architecture)
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(choices) for name, choices in options.items()
    }
    params = dict(space.encode(trial.architecture))
    return create_trial(state=TrialState.COMPLETE, values=values, params=params, distributions=distributions)
