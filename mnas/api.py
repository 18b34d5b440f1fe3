"""`mnas.search` and `mnas.resume`: what was asked for, as one configuration, handed to the workflow."""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from mnas.config import RunConfig, parse_duration, parse_yaml, positive_ms, validate
from mnas.data.sources import ImageData, load_data
from mnas.errors import BadInput
from mnas.latency.device import device_name
from mnas.latency.runtimes import get_runtime
from mnas.latency.table import LatencyTable
from mnas.latency_source import LatencyCallable
from mnas.objective import is_pareto, load_objective
from mnas.run import Run
from mnas.samplers import make_sampler
from mnas.space import SearchSpace, load_space
from mnas.training.device import pick_device
from mnas.trial import Trial
from mnas.workflow import (
    EstimatorCallable,
    Objects,
    Result,
    Search,
    baseline_architecture,
    space_of,
    versions,
)  # fmt: skip

log = logging.getLogger("mnas")



def search(
    *,
    space: str | Path | SearchSpace = "v3_large",
    data: str | Path | ImageData = "digits",
    latency_ms: float | None = None,
    objective: str | Path = "mnasnet",
    runtime: str = "torch",
    threads: int = 1,
    batch: int = 1,
    estimator: str | EstimatorCallable = "train",
    latency: str | LatencyCallable | None = None,
    latency_table: str | Path | None = None,
    sampler: str | optuna.samplers.BaseSampler = "tpe",
    trials: int | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    baseline: Sequence[str] = (),
    resolution: Sequence[int] | None = None,
    proxy_resolution: int | None = None,
    device: str = "auto",
    storage: str | None = None,
    set: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callable[[Trial], None]] = (),
) -> Result:
    """Search `space` for the most accurate network that keeps `latency_ms`, train it, compare it, write it to disk.

    `estimator(arch)` or `estimator(arch, report)` gives an accuracy from 0 to 1, `latency(arch)` milliseconds;
    `budget` is seconds or text such as "30m"; `callbacks` are called with each finished Trial. The other names are the
    command line's. Raises BadInput for what cannot be used and Infeasible where no network keeps the budget.
    """
    given = Objects(
        space if isinstance(space, SearchSpace) else None,
        data if isinstance(data, ImageData) else None,
        estimator if callable(estimator) else None,
        latency if callable(latency) else None,
        sampler if isinstance(sampler, optuna.samplers.BaseSampler) else None,
        callbacks,
    )
    loaded = load_objective(objective)
    if isinstance(estimator, str) and estimator != loaded.accuracy:
        loaded = _changed(loaded, {"accuracy": estimator}, "--estimator")
    if isinstance(latency, str):
        loaded = _changed(loaded, {"latency": latency}, "latency")
    values = {
        "space": given.space.name if given.space else str(space),
        "space_file": (given.space or load_space(space)).file.model_dump(mode="json"),  # type: ignore[arg-type]
        "data": given.data.name if given.data else _absolute(str(data)),
        "latency_ms": None if latency_ms is None else positive_ms(latency_ms),
        "objective": loaded.model_dump(),
        "runtime": runtime, "threads": threads, "batch": batch,
        "latency_table": None if latency_table is None else _absolute(str(latency_table)),
        "sampler": type(sampler).__name__ if given.sampler else sampler,
        "trials": trials,
        "budget_s": parse_duration(budget) if isinstance(budget, str) else budget,
        "seed": seed,
        "baselines": [_absolute(name) for name in baseline],
        "resolution": None if resolution is None else list(resolution),
        "proxy_resolution": proxy_resolution,
        "device": device, "storage": storage, "custom": list(given.names()),
    }  # fmt: skip
    config = validate(RunConfig, values, "options")
    config = changed(config, set or {})
    if config.latency_ms is None and not is_pareto(config.objective):
        raise BadInput("no latency budget: give --latency-ms, such as --latency-ms 15, or --objective pareto")
    _check(config, given)
    folder = Path(run) if run is not None else _new_folder(config)
    stage = Run(folder)
    with stage.lock():
        return Search(Run.create(folder, config, _about()), config, given).go()


def resume(run: str | Path, *, callbacks: Sequence[Callable[[Trial], None]] = ()) -> Result:
    """Continue a run after an interruption: finished trials are kept, none is run twice."""
    stage = Run.open(Path(run))
    config = stage.config()
    if config.custom:
        raise BadInput(
            f"{stage.folder}: this run was given {', '.join(config.custom)} as Python objects, which no file holds; "
            f"call mnas.search(..., run='{stage.folder}') with the same arguments to continue it"
        )
    with stage.lock():
        return Search(stage, config, Objects(callbacks=callbacks)).go()




def changed(model: Any, assignments: Mapping[str, Any]) -> Any:
    """`model` with dotted keys set anew, as --set does: `recipe.epochs` -> 3; text is read as YAML."""
    for path, value in assignments.items():
        model = _changed(model, _nested(path, value), f"--set {path}")
    return model


def _changed(model: Any, changes: Mapping[str, Any], source: str) -> Any:
    def merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        deep = {key: merge(old[key], value) for key, value in new.items()
                if isinstance(value, dict) and isinstance(old.get(key), dict)}
        return old | dict(new) | deep

    return validate(type(model), merge(model.model_dump(mode="json"), changes), source)


def _nested(path: str, value: Any) -> dict[str, Any]:
    """`recipe.epochs` and 3 -> {"recipe": {"epochs": 3}}; text is read as YAML."""
    if isinstance(value, str):
        value = parse_yaml(value, f"--set {path}={value}")
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def _check(config: RunConfig, given: Objects) -> None:
    """What can be refused before a folder is made."""
    space = space_of(config, given)
    for name in config.baselines or (space.reference,):
        baseline_architecture(name, max(space.resolutions))
    if given.sampler is None:
        make_sampler(config.sampler, config.seed)
    if given.latency is None:
        get_runtime(config.runtime)
    pick_device(config.device)
    if config.latency_table is not None:
        LatencyTable.load(Path(config.latency_table))
    if given.data is None:
        load_data(config.data, seed=config.seed, max_broken=config.max_broken)


def _absolute(text: str) -> str:
    """A path in full, so that a run can be resumed from another folder; a name stays as it is."""
    return str(Path(text).expanduser().resolve()) if Path(text).expanduser().exists() else text


def _new_folder(config: RunConfig) -> Path:
    goal = f"-{config.latency_ms:g}ms" if config.latency_ms is not None else "-pareto"
    name = f"{Path(config.space).stem}{goal}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path("runs") / name
    others = (folder.with_name(f"{name}-{i}") for i in itertools.count(2))
    return next(path for path in itertools.chain([folder], others) if not path.exists())


def _about() -> dict[str, Any]:
    """Provenance for config.yaml."""
    return {
        "versions": versions(),
        "hardware": {"device": device_name(), "platform": platform.platform(), "cpus": os.cpu_count()},
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": " ".join(Path(arg).name if i == 0 else arg for i, arg in enumerate(sys.argv)),
    }
