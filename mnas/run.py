"""A run's folder: resolved configuration, lock, atomic files, one line a trial."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import itertools
import json
import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import yaml

from mnas.config import RunConfig
from mnas.errors import BadInput, RunLocked, one_line
from mnas.io.files import write_atomic, write_json
from mnas.io.strict_yaml import load_yaml, validate

log = logging.getLogger("mnas")









class Run:
    """One run's folder. Every file in it is complete whenever it is there."""

    def __init__(self, folder: Path):
        self.folder = folder

    config_path = property(lambda self: self.folder / "config.yaml")
    trials_path = property(lambda self: self.folder / "trials.jsonl")
    table_path = property(lambda self: self.folder / "latency_table.yaml")
    winner = property(lambda self: self.folder / "winner")
    winners = property(lambda self: self.folder / "winners")
    random_trials_path = property(lambda self: self.folder / "random_trials.jsonl")
    checkpoints = property(lambda self: self.folder / "checkpoints")
    tensorboard = property(lambda self: self.folder / "tb")
    log_path = property(lambda self: self.folder / "run.log")

    @property
    def storage_url(self) -> str:
        """Where the Optuna study lies unless --storage names a server."""
        return f"sqlite:///{(self.folder / 'study.db').resolve()}"

    # --- configuration

    @classmethod
    def create(cls, folder: Path, config: RunConfig, about: Mapping[str, Any]) -> Run:
        """The run in `folder`, new or of this very configuration; BadInput where another one lies there."""
        run = cls(folder)
        if run.config_path.exists():
            stands = run.config()
            if stands != config:
                raise BadInput(
                    f"{folder}: holds a run of another configuration ({_difference(stands, config)}); "
                    f"name another folder with --run, or continue this one: mnas resume {folder}"
                )
            return run
        if folder.is_dir() and any(path.name not in (".lock", "owner.json") for path in folder.iterdir()):
            raise BadInput(f"{folder}: is not empty and holds no run; name another folder with --run")
        document = {"config": config.model_dump(mode="json"), **about}
        write_atomic(run.config_path, yaml.safe_dump(document, sort_keys=False))
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in `folder`; BadInput where there is none."""
        run = cls(folder)
        if not run.config_path.exists():
            raise BadInput(f"{folder}: no run there (it has no config.yaml); `ls runs` shows what there is")
        return run

    def config(self) -> RunConfig:
        data = load_yaml(self.config_path)
        if not isinstance(data, dict) or "config" not in data:
            raise BadInput(f"{self.config_path}: expected the key 'config'; the file was changed by hand")
        return validate(RunConfig, data["config"], str(self.config_path))

    # --- the lock

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own this folder until the end of the block. The system frees the lock of a process that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / ".lock", timeout=0)
        owner = self.folder / "owner.json"
        try:
            lock.acquire()
        except filelock.Timeout:
            held = json.loads(owner.read_text()) if owner.exists() else {}
            raise RunLocked(
                f"{self.folder}: process {held.get('pid', '?')} on {held.get('host', '?')} has been working there "
                f"since {held.get('since', '?')}; wait for it, end it, or name another folder with --run"
            ) from None
        try:
            now = datetime.datetime.now().isoformat(timespec="seconds")
            write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": now})
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    # --- trials

    def append_trial(self, record: Mapping[str, Any], path: Path | None = None) -> None:
        """Add one line to trials.jsonl, or to `path`; a write that fails leaves the lines before it as they were."""
        line, path = (json.dumps(record, allow_nan=False) + "\n").encode(), path or self.trials_path
        with path.open("ab") as file:
            size = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise

    def read_trials(self, path: Path | None = None) -> list[dict[str, Any]]:
        """All finished trials; a last line torn by a kill is cut off, one that lacks its newline alone is kept."""
        path = path or self.trials_path
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        last = content[len(whole) :]
        if last and _is_record(last):  # complete but for its newline
            with path.open("ab") as file:
                file.write(b"\n")
            whole = content + b"\n"
        elif last:
            os.truncate(path, len(whole))
        records = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                records.append(json.loads(line))
            except ValueError:
                raise BadInput(f"{path}, line {number}: not JSON; the file was changed by hand") from None
        return records

    # --- small facts that outlive a process

    def read_state(self) -> dict[str, Any]:
        """What earlier processes of this run left: seconds spent, phases done."""
        path = self.folder / "state.json"
        if not path.exists():
            return {}
        state: Any = None
        with contextlib.suppress(ValueError):
            state = json.loads(path.read_bytes())
        spent_s = state.get("elapsed_s", 0.0) if isinstance(state, dict) else None
        if not isinstance(spent_s, int | float) or not 0 <= spent_s < math.inf:
            raise BadInput(f"{path}: is damaged; delete it to go on: the finished trials are in trials.jsonl")
        return state

    def write_state(self, **changes: Any) -> None:
        write_json(self.folder / "state.json", self.read_state() | changes)


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _difference(stands: RunConfig, asked: RunConfig) -> str:
    there, here = dict(_leaves(stands.model_dump())), dict(_leaves(asked.model_dump()))
    differ = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return ", ".join(
        f"{key}: {one_line(repr(there.get(key))):.60} there, {one_line(repr(here.get(key))):.60} asked for"
        for key in differ[:3]
    ) + f", and {len(differ) - 3} more" * (len(differ) > 3)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Each value inside mappings and sequences, with its place."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{index}]")
    else:
        yield place, value


BEFORE_IT_BEGAN = (".lock", "config.yaml", "run.log", "state.json", "latency_table*.yaml")
"""What a run's folder holds before anything is trained."""


def new_folder(config: RunConfig) -> Path:
    budgets = config.budgets_ms or [one.latency_ms for one in config.targets]
    goal = "".join(f"-{ms:g}ms" for ms in budgets if ms is not None) or "-pareto"
    name = f"{Path(config.space).stem}{goal}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path("runs") / name
    others = (folder.with_name(f"{name}-{i}") for i in itertools.count(2))
    return next(path for path in itertools.chain([folder], others) if not path.exists())


def file_names(folder: Path) -> set[str] | None:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else None


def withdraw(folder: Path, before: set[str] | None) -> None:
    """Leaves nothing of a run that was refused before it began, so that its folder is free for another one."""
    added = (file_names(folder) or set()) - (before or set())
    if not all(any(fnmatch.fnmatch(name, known) for known in BEFORE_IT_BEGAN) for name in added):
        return
    for name in added:
        (folder / name).unlink()
    if before is None:
        folder.rmdir()
