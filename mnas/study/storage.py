"""The Optuna study of a run on disk: opened, and brought to what trials.jsonl holds after a kill."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mnas.errors import BadInput
from mnas.run import Run
from mnas.space.space import SearchSpace
from mnas.study.trial import Trial

DISK_FAULTS = ("disk is full", "readonly database", "unable to open", "disk I/O error")
"""What SQLite says of a disk that is full, or may not be written to."""
ValuesOf = Callable[[Trial], list[float] | None]
"""A trial's objective values for Optuna; None where it has none."""


# --- opening


class _Connection(sqlite3.Connection):
    """A commit does not wait for the disk: trials.jsonl survives a loss of power, and both survive a kill."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


DRIVERS = {
    "postgresql": "psycopg2-binary", "postgresql+psycopg2": "psycopg2-binary",
    "postgresql+psycopg": "'psycopg[binary]'", "mysql": "mysqlclient", "mysql+pymysql": "pymysql",
}  # fmt: skip
"""What pip installs for the URLs of databases that need a driver."""


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The database at an SQLAlchemy URL; BadInput where it cannot be opened."""
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server may close connections while a network trains
    if url.startswith("sqlite:"):
        options = {"connect_args": {"factory": _Connection, "timeout": 60}}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except Exception as error:  # SQLAlchemy's, Optuna's or a driver's own
        why = str(error).splitlines()[0]
        driver = DRIVERS.get(url.partition("://")[0]) if isinstance(error, ImportError) else None
        way_out = f"pip install {driver}" if driver else "expected an SQLAlchemy URL of a database that can be reached"
        raise BadInput(f"the study's database {url} cannot be opened: {why}; {way_out}") from None


def open_study(
    run: Run, url: str | None, space_name: str, *, directions: Sequence[str], sampler: optuna.samplers.BaseSampler,
    prune_after: int,
) -> optuna.Study:  # fmt: skip
    """The study of a run, new or as it was left, in the database at `url` or the run's own study.db.

    The median pruner may end a trial after its step `prune_after`. BadInput where the database cannot be opened.
    """
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=prune_after)
    return optuna.create_study(
        storage=_run_storage(run, url), study_name=_study_name(run, url, space_name), load_if_exists=True,
        directions=directions,  # type: ignore[arg-type]
        sampler=sampler, pruner=pruner,
    )  # fmt: skip


def _run_storage(run: Run, url: str | None) -> optuna.storages.RDBStorage:
    try:
        return open_storage(url or run.storage_url)
    except BadInput as error:
        if url is None and any(text in str(error) for text in DISK_FAULTS):
            raise _unwritable(run.folder, str(error)) from None
        own = "; delete that file to continue: the finished trials are in trials.jsonl" if url is None else ""
        raise BadInput(f"{error}{own}") from None


def _unwritable(folder: Path, why: str) -> BadInput:
    """That the study of the run in `folder` cannot be written, and the way out."""
    free = shutil.disk_usage(folder).free
    return BadInput(
        f"{folder / 'study.db'}: cannot be written ({why.splitlines()[0]}; {free:,} bytes are free); the finished "
        f"trials are kept: free some space or make the folder writable, then mnas resume {folder}"
    )


def _study_name(run: Run, url: str | None, space_name: str) -> str:
    """The name of a run's study: `mnas` in its own database, a unique one in a shared database."""
    if url is None:
        return "mnas"
    name = run.state().study or f"{space_name}-{uuid.uuid4().hex[:8]}"
    run.update_state(study=name)
    return str(name)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Raise BadInput with the way out where the study of the run in `folder` cannot be written."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.OperationalError) as error:
        raise _unwritable(folder, str(error.__cause__ or error)) from None


# --- trials


def written_trials(run: Run, path: Path | None = None) -> list[Trial]:
    """The finished trials in a run's trials.jsonl, or in the file at `path`."""
    return [Trial.from_json(record) for record in run.read_trials(path)]


def tell(study: optuna.Study, trial: Trial, values: list[float] | None) -> None:
    """Finish a trial of the study with its objective values; without any it has failed or was pruned."""
    if values is not None:
        study.tell(trial.number, values)
    else:
        study.tell(trial.number, state=TrialState.FAIL if trial.state == "failed" else TrialState.PRUNED)


def choices_of(frozen: FrozenTrial) -> dict[str, Any]:
    """The choices of an unfinished trial: those it was enqueued with, or those it was asked for so far."""
    return dict(frozen.system_attrs.get("fixed_params") or frozen.params)


def reconcile(study: optuna.Study, trials: Sequence[Trial], space: SearchSpace, values_of: ValuesOf) -> None:
    """Bring a study to the state of the written `trials`; a proposal that was cut off is enqueued again."""
    written = {trial.number: trial for trial in trials}
    # a loss of power may take the last trials of study.db, never those of trials.jsonl
    for number in range(len(study.get_trials(deepcopy=False)), max(written, default=-1) + 1):
        trial = written.get(number)
        values = None if trial is None else values_of(trial)
        if trial is None or values is None:
            study.add_trial(create_trial(state=TrialState.FAIL))
        else:
            study.add_trial(_frozen(trial, values, space))
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if frozen.number in written:
            tell(study, written[frozen.number], values_of(written[frozen.number]))
        else:
            study.tell(frozen.number, state=TrialState.FAIL)
            if choices_of(frozen):
                study.enqueue_trial(choices_of(frozen))


def _frozen(trial: Trial, values: list[float], space: SearchSpace) -> FrozenTrial:
    """A finished trial as Optuna keeps it."""
    options = space.options(trial.architecture)
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(choices) for name, choices in options.items()
    }
    params = dict(space.encode(trial.architecture))
    return create_trial(state=TrialState.COMPLETE, values=values, params=params, distributions=distributions)
