"""A run's folder: resolved configuration, lock, state, trials."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import itertools
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import filelock
import pydantic
import sqlalchemy
import yaml

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.errors import BadInput, MnasError, Postponed, RunLocked, one_line
from mnas.io.files import parse_json, write_atomic, write_json
from mnas.io.jsonl import append_record, read_records
from mnas.io.size import SMALLEST, Size, SizeField
from mnas.io.strict_yaml import Positive, Strict, load_yaml, validate


class RunState(Strict):
    """What outlives a process of a run: state.json."""

    elapsed_s: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds spent so far, in all processes of the run."""
    study: str | None = None
    """The study's name in a shared database."""
    resolutions: tuple[Annotated[Size, SizeField(SMALLEST)], ...] | None = None
    """The input sizes that are searched, in pixels."""
    estimator: Literal["supernet", "train", "probe", "zero_cost"] | None = None
    """The estimator of accuracy, decided by the plan where the objective leaves it to it."""
    budget_s: Positive | None = None
    """Seconds of the whole run: those of the configuration, or more where most of them were gone before it trained."""
    precision: Literal["float32", "bfloat16"] | None = None
    """The precision of training, decided by the plan where the configuration leaves it to it."""
    threads: Annotated[int, pydantic.Field(ge=1)] | None = None
    """Torch's threads while networks are trained: with as many, a resumed run computes what it would have."""
    sandwich_per_s: Positive | None = None
    """Training images per second of the supernet, each image counted once a subnet."""
    supernet: SupernetRecipe | None = None
    """The recipe with which the supernet's training began."""
    proxy: Recipe | None = None
    """The recipe with which the candidates' estimates began."""
    select: bool | None = None
    """Whether only promising candidates are fine-tuned."""
    adapts: bool | None = None
    """Whether the supernet of another run is adapted to the images; None if there is no such, or not decided."""
    searched: bool = False
    compared: bool = False
    """Whether the random search that --compare-random asks for is finished."""
    recipe: Recipe | None = None
    """The recipe with which the races began."""
    done: bool = False


class Run:
    """One run's folder. Every file in it is complete whenever it exists."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config_path, self.state_path = self.folder / "config.yaml", self.folder / "state.json"
        self.trials_path, self.random_trials_path = self.folder / "trials.jsonl", self.folder / "random_trials.jsonl"
        self.table_path, self.log_path = self.folder / "latency_table.yaml", self.folder / "run.log"
        self.checkpoints, self.tensorboard = self.folder / "checkpoints", self.folder / "tb"
        self.races_path, self.supernet_weights = self.folder / "races.jsonl", self.checkpoints / "supernet.safetensors"
        self.origins = self.folder / "origins"
        self.given_supernet = self.origins / "supernet" / "supernet.safetensors"
        self.origins_path = self.origins / "origins.json"
        self.winner, self.winners = self.folder / "winner", self.folder / "winners"
        self.front, self.leaderboard_path = self.folder / "front", self.folder / "leaderboard.csv"
        self.mistakes, self.report_path = self.folder / "mistakes", self.folder / "report.html"

    @property
    def storage_url(self) -> str:
        """The URL of the run's own Optuna database, used unless --storage names another."""
        path = str((self.folder / "study.db").resolve())  # in which a '?' would end the path
        return sqlalchemy.engine.URL.create("sqlite", database=path).render_as_string()

    # --- configuration

    @classmethod
    def create(cls, folder: Path, config: RunConfig, about: Mapping[str, Any]) -> Run:
        """The run in `folder`: new, or one of the same configuration; BadInput if the folder holds anything else."""
        run = cls(folder)
        if run.config_path.exists():
            existing = run.config()
            if existing != config:
                way_out = f"name another folder with --run, or continue this one: mnas resume {folder}"
                if existing.supernet_alone:
                    way_out = "name another folder, or continue this one by the command that began it"
                raise BadInput(
                    f"{folder}: holds a run of another configuration ({_difference(existing, config)}); {way_out}"
                )
            return run
        if folder.is_dir() and any(path.name not in (".lock", "owner.json") for path in folder.iterdir()):
            raise BadInput(f"{folder}: is not empty and holds no run; name another folder with --run")
        document = {"config": config.model_dump(mode="json"), **about}
        write_atomic(run.config_path, yaml.safe_dump(document, sort_keys=False))
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in `folder`; BadInput if there is none."""
        run = cls(folder)
        if not run.config_path.exists():
            raise BadInput(f"{folder}: not a run (it has no config.yaml); `ls runs` lists the runs")
        return run

    def config(self) -> RunConfig:
        data = load_yaml(self.config_path)
        if not isinstance(data, dict) or "config" not in data:
            raise BadInput(f"{self.config_path}: expected the key 'config': it is not a run's configuration")
        return validate(RunConfig, data["config"], str(self.config_path))

    def keep(self, config: RunConfig) -> None:
        """Write a changed configuration; what else config.yaml says stays."""
        document = load_yaml(self.config_path)
        if document["config"] != (changed := config.model_dump(mode="json")):
            write_atomic(self.config_path, yaml.safe_dump({**document, "config": changed}, sort_keys=False))

    # --- the lock

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own this folder until the end of the block; the system releases the lock of a process that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / ".lock", timeout=0)
        owner = self.folder / "owner.json"
        try:
            lock.acquire()
        except filelock.Timeout:
            held = {}
            with contextlib.suppress(OSError, ValueError):
                held = json.loads(owner.read_text())
            raise RunLocked(
                f"{self.folder}: process {held.get('pid', '?')} on {held.get('host', '?')} has been using it "
                f"since {held.get('since', '?')}; wait for it, stop it, or name another folder with --run"
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
        """Add a line to trials.jsonl, or to `path`."""
        append_record(path or self.trials_path, record)

    def read_trials(self, path: Path | None = None) -> list[dict[str, Any]]:
        """All finished trials in trials.jsonl, or in `path`."""
        return read_records(path or self.trials_path)

    # --- state

    def state(self) -> RunState:
        """What earlier processes of this run left; BadInput where the file is damaged."""
        path = self.state_path
        if not path.exists():
            return RunState()
        try:
            return validate(RunState, parse_json(path.read_bytes(), str(path)), str(path))
        except BadInput:
            raise BadInput(
                f"{path}: damaged; delete it to continue: the finished trials are in trials.jsonl"
            ) from None

    def update_state(self, **changes: Any) -> None:
        """Set fields of the state; the others stay as they are."""
        state = self.state().model_copy(update=changes)
        write_json(self.state_path, state.model_dump(mode="json", exclude_defaults=True))


def _difference(existing: RunConfig, requested: RunConfig) -> str:
    there, here = dict(_leaves(existing.model_dump())), dict(_leaves(requested.model_dump()))
    differ = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return ", ".join(
        f"{key}: {one_line(repr(there.get(key))):.60} there, {one_line(repr(here.get(key))):.60} requested"
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


# --- folders of new runs

UNSTARTED_FILES = (
    ".lock", "config.yaml", "run.log", "state.json", "splits.json", "latency_table*.yaml", "origins"
)  # fmt: skip
"""What a run's folder holds before anything is trained."""


def new_folder(config: RunConfig) -> Path:
    """A path in runs/ that does not exist yet, named after the space, the budgets and the time."""
    budgets = config.budgets_ms or [target.latency_ms for target in config.targets]
    goal = "".join(f"-{ms:g}ms" for ms in budgets if ms is not None) or "-pareto"
    name = f"{Path(config.space).stem}{goal}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path("runs") / name
    others = (folder.with_name(f"{name}-{i}") for i in itertools.count(2))
    return next(path for path in itertools.chain([folder], others) if not path.exists())


@contextmanager
def removed_unless_started(folder: Path) -> Iterator[None]:
    """Remove what the block wrote into `folder` if it ends in a MnasError before anything was trained.

    So a refused run leaves its folder free for another one. A folder that another process owns is not touched, and one
    that is only postponed stays.
    """
    before = _file_names(folder)
    try:
        yield
    except (RunLocked, Postponed):
        raise
    except MnasError:
        added = (_file_names(folder) or set()) - (before or set())
        if all(any(fnmatch.fnmatch(name, pattern) for pattern in UNSTARTED_FILES) for name in added):
            for name in added:
                _remove(folder / name)
            if before is None:
                with contextlib.suppress(OSError):  # another process is using it by now
                    folder.rmdir()
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _file_names(folder: Path) -> set[str] | None:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else None
