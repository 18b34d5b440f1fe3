"""The database of studies at an SQLAlchemy URL: opened, and waited for while its server is away."""

from __future__ import annotations

import functools
import logging
import os
import random
import re
import sqlite3
import time
from collections.abc import Callable, Container
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc

from mnas.errors import BadInput, Postponed, hide_passwords
from mnas.study.bulk import read_trials
from mnas.study.optuna_log import experimental_features

log = logging.getLogger("mnas")

T = TypeVar("T")

BEATS = 6
"""A process that missed so many signs of life is taken for dead."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 4.0
"""Between two attempts to reach a server. The longest is below the BEATS seconds of the shortest grace period."""
SETTLING_S = 10.0
"""How long a server that starts, and tables that other processes create at the same instant, are waited for."""
RESTARTING = (
    "Connection refused", "the database system is", "terminating connection", "server closed the connection",
    "too many clients",
)  # fmt: skip
"""What PostgreSQL says while it restarts; it has no code for a connection that never was."""


# --- the URL


def resolved_url(storage: str) -> str:
    """The URL itself where `storage` is `env:NAME`, the name of an environment variable that holds it. BadInput."""
    if not storage.startswith("env:"):
        return storage
    name = storage.removeprefix("env:")
    if not os.environ.get(name):
        raise BadInput(f"--storage {storage}: the environment variable {name} is not set; expected an SQLAlchemy URL")
    return os.environ[name]


def without_password(storage: str) -> str:
    """The URL as files may hold it; the driver finds the password in PGPASSWORD or ~/.pgpass."""
    bare = re.sub(r"(://[^:/@\s]*):[^@\n]*@(?:\S*@)?", r"\1@", storage)
    return re.sub(r"\?$", "", re.sub(r"([?&])\w*password=[^&]*&?", r"\1", bare)).rstrip("&")


def _with_driver(url: str) -> str:
    """PostgreSQL by psycopg 3, whatever SQLAlchemy's version takes by default."""
    return re.sub(r"^(postgres|postgresql)://", "postgresql+psycopg://", url)


DRIVERS = {"postgresql": "'mnas[postgresql]'", "mysql": "mysqlclient", "mysql+pymysql": "pymysql"}
"""What pip installs for the URLs of databases that need a driver."""


# --- opening


class _Connection(sqlite3.Connection):
    """A commit does not wait for the disk: trials.jsonl survives a loss of power, and both survive a kill."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def open_storage(storage: str, *, heartbeat_s: int | None = None, patience_s: float = 0.0) -> PatientStorage:
    """The database at an SQLAlchemy URL, or at `env:NAME`; BadInput where it cannot be opened.

    Running trials show a sign of life every `heartbeat_s`. A server that goes away is waited for, up to `patience_s`.
    """
    url = _with_driver(resolved_url(storage))
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server may close connections while a network trains
    if url.startswith("sqlite:"):
        options = {"connect_args": {"factory": _Connection, "timeout": 60}}
        if heartbeat_s is not None:
            options["connect_args"]["isolation_level"] = None  # transactions begin as `_lock_at_once` says
    try:
        return _created(url, options, heartbeat_s, patience_s)
    except Exception as error:  # SQLAlchemy's, Optuna's or a driver's own
        why = str(error).splitlines()[0]
        scheme = url.partition("://")[0]
        driver = DRIVERS.get(scheme, DRIVERS.get(scheme.partition("+")[0])) if isinstance(error, ImportError) else None
        way_out = f"pip install {driver}" if driver else "expected an SQLAlchemy URL of a database that can be reached"
        named = storage if storage == resolved_url(storage) else f"{storage} ({url})"
        raise BadInput(f"the study's database {named} cannot be opened: {why}; {way_out}") from None


def _created(url: str, options: dict[str, Any], heartbeat_s: int | None, patience_s: float) -> PatientStorage:
    """The storage, its tables made; processes that make them at the same instant disturb each other for a moment."""
    began = time.monotonic()
    while True:
        try:
            with experimental_features():
                storage = PatientStorage(
                    url, options, patience_s=patience_s, heartbeat_interval=heartbeat_s,
                    grace_period=None if heartbeat_s is None else BEATS * heartbeat_s,
                )  # fmt: skip
            if heartbeat_s is not None and storage.engine.dialect.name == "sqlite":
                sqlalchemy.event.listen(storage.engine, "begin", _lock_at_once)
            return storage
        except (exc.DBAPIError, exc.PendingRollbackError, optuna.exceptions.StorageInternalError,
                AssertionError) as error:  # fmt: skip
            restarts = any(words in f"{error} {error.__cause__}" for words in RESTARTING)
            settles = not isinstance(error, optuna.exceptions.StorageInternalError) and _is_reachable(url, options)
            limit_s = min(SETTLING_S, patience_s) if restarts else SETTLING_S
            if time.monotonic() - began > limit_s or not (restarts or settles):
                raise
            time.sleep(random.uniform(0.02, 0.2))


def _lock_at_once(connection: sqlalchemy.Connection) -> None:
    """SQLite locks no rows: a transaction that reads and then writes has to lock the database before it reads."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _is_reachable(url: str, options: dict[str, Any]) -> bool:
    """Whether there is a database that can be read: an error was one of a moment."""
    engine = sqlalchemy.create_engine(url, **options)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
            return True
    except exc.SQLAlchemyError:
        return False
    finally:
        engine.dispose()


# --- a server that goes away


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage, each of whose operations waits for a server that is away, with growing pauses."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any], *, patience_s: float, **options: Any):
        try:
            super().__init__(url, engine_kwargs, **options)
        except BaseException:
            if hasattr(self, "scoped_session"):  # it may have failed when it was connected
                self.close()
            raise
        self.patience_s = patience_s
        self.back_at = float("-inf")
        """When the server was there again after it was away, on time.monotonic()."""

    def _get_trials(
        self, study_id: int, states: Container[TrialState] | None, included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:  # fmt: skip
        """Optuna's own method, several times as fast."""
        wanted = None if states is None else [state for state in TrialState if state in states]
        with _create_scoped_session(self.scoped_session) as session:
            return read_trials(
                session, study_id, states=wanted, included=included_trial_ids, after=trial_id_greater_than
            )

    def wait_out(self, operation: Callable[[], T]) -> T:
        """The operation's result. Postponed where the server stays away for longer than `patience_s`."""
        began, wait_s = time.monotonic(), FIRST_WAIT_S
        while True:
            try:
                result = operation()
            except optuna.exceptions.StorageInternalError as error:
                if self.patience_s <= 0 or not _is_outage(error.__cause__):
                    raise
                away_s = time.monotonic() - began
                reason = hide_passwords(str(error.__cause__).splitlines()[0])
                if away_s > self.patience_s:
                    raise Postponed(
                        f"the study's database {self.url} is away for {away_s:.0f} s ({reason}); finished trials are "
                        "kept: once it is back, continue the run with mnas resume, and start workers again"
                    ) from None
                if wait_s == FIRST_WAIT_S:
                    log.warning("the study's database is away, waiting for it: %s", reason)
                time.sleep(wait_s * random.uniform(0.5, 1))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                if wait_s > FIRST_WAIT_S:
                    self.back_at = time.monotonic()
                    log.info("the study's database is back after %.0f s", self.back_at - began)
                return result

    def close(self) -> None:
        """Close the connections; the next operation opens them again."""
        self.scoped_session.remove()
        self.engine.dispose()

    @property
    def just_back(self) -> bool:
        """Whether the server was away so recently that living processes may not have shown a sign of life yet."""
        return time.monotonic() - self.back_at < (self.grace_period or 0)


def _is_outage(cause: BaseException | None) -> bool:
    """Whether an operation may succeed later: the connection broke, or the server refuses any for now."""
    # a connection that breaks in the middle of a transaction is told in several ways
    broken = exc.OperationalError | exc.InterfaceError | exc.PendingRollbackError | exc.DisconnectionError
    return isinstance(cause, broken) or (
        isinstance(cause, exc.DBAPIError) and cause.connection_invalidated
    )


def _waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self.wait_out(lambda: method(self, *args, **kwargs))

    return call


# what Optuna's studies and their cache call; each is one transaction
for _name in (
    "create_new_study", "set_study_user_attr", "set_study_system_attr", "get_study_id_from_name",
    "get_study_name_from_id", "get_study_directions", "get_study_user_attrs", "get_study_system_attrs",
    "get_all_studies", "_create_new_trial", "_set_trial_param", "get_trial_id_from_study_id_trial_number",
    "_get_best_trial_id", "set_trial_state_values", "set_trial_intermediate_value", "set_trial_user_attr",
    "set_trial_system_attr", "get_trial", "_get_trials", "record_heartbeat", "_get_stale_trial_ids",
):  # fmt: skip
    setattr(PatientStorage, _name, _waiting(getattr(PatientStorage, _name)))
