"""Where an Optuna study is kept."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from mnas.errors import BadInput

log = logging.getLogger("mnas")



class _Connection(sqlite3.Connection):
    """A commit waits for no disk: trials.jsonl is what survives a loss of power, and a kill loses neither."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The database of a study; BadInput where it cannot be opened."""
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server may have closed what was idle while a network trained
    if url.startswith("sqlite:"):
        options = {"connect_args": {"factory": _Connection, "timeout": 60}}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except Exception as error:  # SQLAlchemy's, Optuna's or a driver's own
        raise BadInput(f"the study's database {url} cannot be opened: {str(error).splitlines()[0]}") from None


def choices_of(frozen: FrozenTrial) -> dict[str, Any]:
    """The choices that an unfinished trial was asked with: those it was enqueued with, or those it got to."""
    return dict(frozen.system_attrs.get("fixed_params") or frozen.params)
