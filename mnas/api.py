"""`mnas.search` and `mnas.resume`: the arguments become one configuration, which the pipeline runs."""

from __future__ import annotations

import datetime
import logging
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from mnas.config import RunConfig, Target, changed, merged, parse_count, parse_duration
from mnas.data.sources import ImageData, load_data
from mnas.errors import BadInput
from mnas.estimators.factory import EstimatorCallable
from mnas.io.strict_yaml import validate
from mnas.io.versions import versions
from mnas.latency.model import LatencyCallable
from mnas.latency.resolve import admit_table
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import load_table
from mnas.latency.targets import targets_and_budgets
from mnas.latency.timing.device import device_name
from mnas.nn.weights import read_weights
from mnas.pipeline.context import Overrides, space_of
from mnas.pipeline.search import run_search
from mnas.pipeline.winners import Result
from mnas.pipeline.worker import work
from mnas.run import Run, new_folder, removed_unless_started
from mnas.samplers import make_sampler
from mnas.space.space import SearchSpace, load_space
from mnas.space.zoo import load_architecture
from mnas.study.objective import is_pareto, load_objective
from mnas.study.trial import Trial
from mnas.training.device import pick_device, restored_threads
from mnas.training.distributed import check_gpus, process_group

log = logging.getLogger("mnas")



def search(
    *,
    space: str | Path | SearchSpace = "v3_large",
    data: str | Path | ImageData = "digits",
    latency_ms: float | Sequence[float] | None = None,
    objective: str | Path | None = None,
    runtime: str | Sequence[str | None] = "torch",
    threads: int = 1,
    batch: int = 1,
    estimator: str | EstimatorCallable | None = None,
    latency: str | LatencyCallable | None = None,
    latency_table: str | Path | Sequence[str | Path | None] | None = None,
    allow_foreign_table: bool = False,
    max_params: int | str | None = None,
    max_madds: int | str | None = None,
    max_memory_mb: float | None = None,
    sampler: str | optuna.samplers.BaseSampler = "predictor",
    trials: int | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    baseline: Sequence[str] = (),
    resolution: Sequence[int] | None = None,
    proxy_resolution: int | None = None,
    init: str | Path | None = None,
    from_scratch: bool = False,
    compare_random: bool = False,
    device: str = "auto",
    storage: str | None = None,
    set: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callable[[Trial], None]] = (),
) -> Result:
    """Search `space` for the most accurate network that keeps `latency_ms`, train it, compare it, write it to disk.

    Several budgets for one device: one search of the front (the objective is pareto), and a winner for each budget.
    Several devices: as many budgets as runtimes or tables, in order, with None for one that is not stated; one that is
    given once holds for every budget. The winner keeps all of them. The objective is mnasnet_hard unless one is named.
    `estimator(arch)` or `estimator(arch, report)` gives an accuracy from 0 to 1, `latency(arch)` milliseconds; without
    them the objective says where both come from. `budget` is seconds or text such as "30m"; `callbacks` are called with
    each finished Trial. The other names are the command line's. Raises BadInput for what cannot be used and Infeasible
    where no network keeps the budget.
    """
    overrides = Overrides(
        space if isinstance(space, SearchSpace) else None,
        data if isinstance(data, ImageData) else None,
        estimator if callable(estimator) else None,
        latency if callable(latency) else None,
        sampler if isinstance(sampler, optuna.samplers.BaseSampler) else None,
        callbacks,
    )  # fmt: skip
    with process_group() as group, restored_threads():
        with group.all_succeed():
            targets, budgets = targets_and_budgets(latency_ms, runtime, latency_table)
            loaded = load_objective(objective or ("pareto" if budgets else "mnasnet_hard"))
            if isinstance(estimator, str) and estimator != loaded.accuracy:
                loaded = merged(loaded, {"accuracy": estimator.replace("-", "_")}, "--estimator")
            if isinstance(latency, str):
                loaded = merged(loaded, {"latency": latency}, "latency")
            searched = overrides.space or load_space(space)  # type: ignore[arg-type]
            values = {
                "space": overrides.space.name if overrides.space else str(space),
                "space_file": searched.file.model_dump(mode="json"),
                "data": overrides.data.name if overrides.data else _absolute(str(data)),
                "targets": [target.model_dump() for target in targets], "budgets_ms": budgets,
                "objective": loaded.model_dump(),
                "threads": threads, "batch": batch, "allow_foreign_table": allow_foreign_table,
                "max_params": _count(max_params, "--max-params"), "max_madds": _count(max_madds, "--max-madds"),
                "max_memory_mb": max_memory_mb,
                "sampler": type(sampler).__name__ if overrides.sampler else sampler,
                "trials": trials,
                "budget_s": parse_duration(budget) if isinstance(budget, str) else budget,
                "seed": seed,
                "baselines": [_absolute(name) for name in baseline],
                "resolution": None if resolution is None else list(resolution),
                "proxy_resolution": proxy_resolution,
                "init": None if init is None else _absolute(str(init)), "from_scratch": from_scratch,
                "compare_random": compare_random,
                "device": device, "storage": storage, "custom": list(overrides.names()),
            }  # fmt: skip
            config = validate(RunConfig, values, "options")
            for name in set or {}:
                if name in Target.model_fields:
                    raise BadInput(f"--set {name}: belongs to one device: state it as --{name.replace('_', '-')}")
                if name == "budgets_ms":
                    raise BadInput("--set budgets_ms: state them as --latency-ms 5 10 15")
            config = changed(config, set or {})
            if run is None and group.size > 1:
                raise BadInput("under torchrun name the run's folder: torchrun ... -m -- mnas search --run DIR ...")
            _check(config, overrides)
        if not group.is_main:
            return work(config, overrides, group)
        folder = new_folder(config) if run is None else Path(run)
        with removed_unless_started(folder), Run(folder).lock():
            return run_search(Run.create(folder, config, _provenance()), config, overrides, group)


def resume(run: str | Path, *, callbacks: Sequence[Callable[[Trial], None]] = ()) -> Result:
    """Continue a run after an interruption: finished trials are kept, none is run twice."""
    with process_group() as group, restored_threads():
        with group.all_succeed():
            existing = Run.open(Path(run))
            config = existing.config()
            if config.custom:
                raise BadInput(
                    f"{existing.folder}: this run was given {', '.join(config.custom)} as Python objects, which no "
                    f"file keeps; call mnas.search(..., run='{existing.folder}') with the same arguments to continue"
                )
            check_gpus(pick_device(config.device))
        overrides = Overrides(callbacks=callbacks)
        if not group.is_main:
            return work(config, overrides, group)
        with existing.lock():
            return run_search(existing, config, overrides, group)


def _check(config: RunConfig, overrides: Overrides) -> None:
    """Refuse what can be refused before a folder is made."""
    budgets = [target.latency_ms for target in config.targets]
    if None in budgets and not is_pareto(config.objective):
        raise BadInput("no latency budget: give --latency-ms, such as --latency-ms 15, or --objective pareto")
    if config.budgets_ms and not is_pareto(config.objective):
        raise BadInput(
            f"{len(config.budgets_ms)} latency budgets for one device, and '{config.objective.name}' is about one: "
            "leave --objective out (several budgets mean pareto), or give one --latency-ms"
        )
    if len(budgets) > 1 and overrides.latency is not None:
        raise BadInput(f"{len(budgets)} latency budgets and one latency callable: give it one budget")
    space = space_of(config, overrides.space)
    for name in config.baselines or (space.reference,):
        load_architecture(name, max(space.resolutions))
    if overrides.sampler is None:
        make_sampler(config.sampler, config.seed)
    for target in config.targets if overrides.latency is None else ():
        if target.latency_table is None:
            get_runtime(target.runtime)
        else:
            path = Path(target.latency_table)
            admit_table(load_table(path), target, config, path)
    check_gpus(pick_device(config.device))
    if config.init is not None:
        read_weights(Path(config.init))
    if overrides.data is None:
        load_data(config.data, seed=config.seed, max_broken=config.max_broken)


def _absolute(text: str) -> str:
    """A path in full, so that a run can be resumed from another folder; a name stays as it is."""
    return str(Path(text).expanduser().resolve()) if Path(text).expanduser().exists() else text


def _count(given: int | str | None, what: str) -> int | None:
    return given if given is None else parse_count(str(given), what)








def _provenance() -> dict[str, Any]:
    """Provenance for config.yaml."""
    return {
        "versions": versions(),
        "hardware": {"device": device_name(), "platform": platform.platform(), "cpus": os.cpu_count()},
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": " ".join(Path(arg).name if i == 0 else arg for i, arg in enumerate(sys.argv)),
    }
