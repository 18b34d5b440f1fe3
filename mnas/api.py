"""`mnas.search` and `mnas.resume`: the arguments become one configuration, which the pipeline runs."""

from __future__ import annotations

import datetime
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from mnas.config import (
    MAX_BROKEN,
    Objective,
    RunConfig,
    Target,
    load_objective,
    parse_count,
    parse_duration,
    recipe_with,
    updated,
    usual_recipe,
    with_keys,
)
from mnas.data.reading import MAX_PIXELS
from mnas.data.sources import DATA_SETS, ImageData
from mnas.errors import BadInput, hide_passwords
from mnas.estimators.factory import EstimatorCallable
from mnas.export.onnx import require_exporters
from mnas.io.names import absolute_path
from mnas.io.size import Size
from mnas.io.strict_yaml import validate
from mnas.io.versions import versions
from mnas.latency.model import LatencyCallable
from mnas.latency.resolve import admit_table
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import load_table
from mnas.latency.targets import targets_and_budgets
from mnas.latency.timing.device import device_name
from mnas.pipeline.context import Overrides, config_data, space_of
from mnas.pipeline.kind import SearchKind
from mnas.pipeline.kinds import kind_of, search_kind
from mnas.pipeline.origins import check_start, pretrained_name
from mnas.pipeline.search import run_search
from mnas.pipeline.supernet_run import run_supernet
from mnas.pipeline.supernet_source import check_shared, shared_data, shared_space, sharing, source_of
from mnas.pipeline.torchrun import work
from mnas.pipeline.winners import Result
from mnas.pipeline.worker import WAIT_S, Local, run_worker
from mnas.report.page import report_after
from mnas.run import Run, new_folder, removed_unless_started
from mnas.samplers import make_sampler
from mnas.space.space import SearchSpace, load_space
from mnas.space.zoo import NETWORKS
from mnas.study.database import without_password
from mnas.study.objective import is_pareto
from mnas.study.trial import Trial
from mnas.training.device import pick_device, restored_threads
from mnas.training.distributed import ProcessGroup, check_gpus, process_group


def search(
    *,
    space: str | Path | SearchSpace | None = None,
    without: str | Sequence[str] = (),
    task: str = "classification",
    head: str | None = None,
    data: str | Path | ImageData | None = None,
    labels: str | Path | None = None,
    max_broken: int = MAX_BROKEN,
    max_pixels: int | str = MAX_PIXELS,
    fit: str = "auto",
    channels: int | None = None,
    group_by: str | None = None,
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
    metric: str = "accuracy",
    sampler: str | optuna.samplers.BaseSampler = "predictor",
    trials: int | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    seeds: int = 1,
    run: str | Path | None = None,
    baseline: Sequence[str] = (),
    resolution: Sequence[Size | str] | str | None = None,
    proxy_resolution: int | None = None,
    init: str | Path | None = None,
    supernet: str | Path | None = None,
    pretrained: bool | str | None = None,
    from_scratch: bool = False,
    class_weights: str | None = None,
    compare_random: bool = False,
    device: str = "auto",
    storage: str | None = None,
    workers_only: bool = False,
    set: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callable[[Trial], None]] = (),
) -> Result:
    """Search `space` for the most accurate network that keeps `latency_ms`, train it, compare it, write it to disk.

    The arguments are the options of the command `mnas search`; `task` segmentation or detection searches backbones
    under a `head`, lraspp, deeplabv3 or ssdlite, ranked by mIoU or mAP; `space` and `data` are those of a given
    `supernet`, or else v3_large and the digits (with a head the built-in shapes); `without` leaves choices out of the
    space, "se,kernel7"; `budget` is seconds, or text such as "30m"; rectangles in `resolution` are (height, width), or
    text such as "96x160".
    `estimator(arch)` or `estimator(arch, report)` returns an accuracy from 0 to 1, `latency(arch)` milliseconds; by
    default the objective names the sources of both. `callbacks` are called with each finished Trial.

    Several budgets for one device: one search of the front (objective pareto), and a winner for each budget.
    Several devices: a budget for each runtime or table, in the same order, with None for a runtime or a table that is
    not stated; one that is given once is used with every budget. The winner keeps all budgets.

    Raises BadInput for arguments that cannot be used, and Infeasible where no network keeps the budget.
    """
    overrides = Overrides(
        space.without(without) if isinstance(space, SearchSpace) else None,
        data if isinstance(data, ImageData) else None,
        estimator if callable(estimator) else None,
        latency if callable(latency) else None,
        sampler if isinstance(sampler, optuna.samplers.BaseSampler) else None,
        callbacks, storage,
    )  # fmt: skip
    with process_group() as group, restored_threads():
        with group.all_succeed():
            shared = None if supernet is None else source_of(supernet)
            kind = search_kind(task, head)
            data = data or (kind.usual_data if shared is None else shared_data(shared))
            targets, budgets = targets_and_budgets(latency_ms, runtime, latency_table)
            if shared is not None and space is None:
                searched, space = shared_space(shared).without(without), shared.config().space
            else:
                if shared is not None and overrides.space is not None:
                    eps = shared_space(shared).file.bn_eps
                    overrides = replace(overrides, space=overrides.space.with_bn_eps(eps))
                space = space or "v3_large"
                searched = overrides.space or load_space(space).without(without)  # type: ignore[arg-type]
            options = {
                "space": searched.file.name if overrides.space else str(space), "without": searched.file.without,
                "space_file": searched.file.model_dump(mode="json"), "task": task, "head": kind.head,
                "data": _data_name(data, kind),
                "labels": None if labels is None else absolute_path(labels),
                "max_broken": max_broken, "max_pixels": _count(max_pixels, "--max-pixels"), "fit": fit,
                "channels": searched.channels if channels is None else channels, "group_by": group_by,
                "targets": [target.model_dump() for target in targets], "budgets_ms": budgets,
                "objective": _objective(objective, estimator, latency, budgets).model_dump(),
                "threads": threads, "batch": batch, "allow_foreign_table": allow_foreign_table,
                "max_params": _count(max_params, "--max-params"), "max_madds": _count(max_madds, "--max-madds"),
                "max_memory_mb": max_memory_mb, "metric": metric,
                "sampler": type(sampler).__name__ if overrides.sampler else sampler,
                "trials": trials, "budget_s": parse_duration(budget) if isinstance(budget, str) else budget,
                "seed": seed, "seeds": seeds, "baselines": [NETWORKS.absolute(name) for name in baseline],
                "resolution": _sizes(resolution), "proxy_resolution": proxy_resolution,
                "init": None if init is None else absolute_path(init), "pretrained": pretrained_name(pretrained),
                "from_scratch": from_scratch, "shared_supernet": None if supernet is None else absolute_path(supernet),
                "recipe": recipe_with(class_weights, kind.recipes).model_dump(),
                **{part: usual_recipe(part, kind.recipes) for part in ("proxy", "supernet", "finetune")},
                "compare_random": compare_random,
                "device": device, "storage": None if storage is None else without_password(storage),
                "workers_only": workers_only, "custom": list(overrides.names()),
            }  # fmt: skip
            config = validate(RunConfig, options, "options")
            if shared is not None:
                config = sharing(config, shared)
            config = _with_set(config, set or {})
            if run is None and group.size > 1:
                raise BadInput("under torchrun name the run's folder: torchrun ... -m -- mnas search --run DIR ...")
            _check(config, overrides)
            _check_processes(config, group)
        if not group.is_main:
            return work(config, overrides, group)
        folder = new_folder(config) if run is None else Path(run)
        with removed_unless_started(folder), Run(folder).lock():
            return _searched(Run.create(folder, config, _provenance()), config, overrides, group)


def resume(
    run: str | Path, *, data: str | Path | None = None, storage: str | None = None,
    callbacks: Sequence[Callable[[Trial], None]] = (),
) -> Result:  # fmt: skip
    """Continue a run after an interruption: finished trials are kept, none is run twice.

    `data` says where the run's images are now, if they were moved; `storage` is another URL of its study.
    """
    with process_group() as group, restored_threads():
        with group.all_succeed():
            existing = Run.open(Path(run))
            config = _moved(existing.config(), data, storage)
            if config.supernet_alone:
                raise BadInput(
                    f"{existing.folder}: holds a supernet, not a search: the same mnas supernet command continues it, "
                    f"and mnas search --supernet {existing.folder} searches in it"
                )
            if config.custom:
                raise BadInput(
                    f"{existing.folder}: this run was given {', '.join(config.custom)} as Python objects, which no "
                    f"file keeps; call mnas.search(..., run='{existing.folder}') with the same arguments to continue"
                )
            check_gpus(pick_device(config.device))
            _check_processes(config, group)
        overrides = Overrides(callbacks=callbacks, storage=storage)
        if not group.is_main:
            return work(config, overrides, group)
        with existing.lock():
            existing.keep(config)
            return _searched(existing, config, overrides, group)


def worker(
    storage: str, run: str | Path, *, data: str | Path | None = None, device: str | None = None,
    init: str | Path | None = None, wait: str | float = WAIT_S, estimator: EstimatorCallable | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate trials of the search `run`, which shares its study in `storage`, until it has enough.

    `run` is the folder's name, or path, as the search has it; nothing in it is read here. `data` says where the images
    are on this machine, `init` where the search's file of weights is, `device` what trains here. `wait` is how long the
    search, and then a trial, is waited for: seconds, or text such as "10m". A search with a callable estimator needs
    the same callable here. Returns how many trials this process ended, and how many of them it evaluated. Raises
    BadInput.
    """
    wait_s = parse_duration(wait) if isinstance(wait, str) else wait
    return run_worker(storage, Path(run).name, Local(data, device, estimator, init), wait_s)


def _searched(run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup) -> Result:
    """The result of a search, which also leaves a report."""
    result = run_search(run, config, overrides, group)
    report_after(run)
    return result


def train_supernet(
    folder: str | Path,
    *,
    space: str | Path = "v3_large",
    without: str | Sequence[str] = (),
    data: str | Path = "digits",
    labels: str | Path | None = None,
    max_broken: int = MAX_BROKEN,
    max_pixels: int | str = MAX_PIXELS,
    fit: str = "auto",
    channels: int | None = None,
    group_by: str | None = None,
    budget: str | float | None = None,
    seed: int = 0,
    resolution: Sequence[Size | str] | str | None = None,
    init: str | Path | None = None,
    pretrained: bool | str | None = None,
    device: str = "auto",
    set: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the supernet of a space alone, for `search(supernet=folder)`; a folder that has a part of it is continued.

    The arguments are those of `search`; without a `budget` of time it is trained for the epochs of its recipe, and
    for at least 1,000 steps unless their number is stated. Returns what supernet.json says. Raises BadInput.
    """
    with process_group() as group, restored_threads():
        with group.all_succeed():
            searched = load_space(space).without(without)
            options: dict[str, Any] = {
                "space": str(space), "without": searched.file.without,
                "space_file": searched.file.model_dump(mode="json"),
                "data": DATA_SETS.absolute(data), "labels": None if labels is None else absolute_path(labels),
                "max_broken": max_broken, "max_pixels": _count(max_pixels, "--max-pixels"), "fit": fit,
                "channels": searched.channels if channels is None else channels, "group_by": group_by,
                "resolution": _sizes(resolution), "init": None if init is None else absolute_path(init),
                "pretrained": pretrained_name(pretrained), "targets": [{}],
                "objective": updated(load_objective("pareto"), {"accuracy": "supernet"}, "objective").model_dump(),
                "budget_s": parse_duration(budget) if isinstance(budget, str) else budget,
                "seed": seed, "device": device, "supernet_alone": True,
            }  # fmt: skip
            config = _with_set(validate(RunConfig, options, "options"), set or {})
            check_gpus(pick_device(config.device))
            check_start(config.init, config.pretrained, searched.reference)
            with _unheard("mnas.data"):
                config_data(config)
        if not group.is_main:
            facts: dict[str, Any] = work(config, Overrides(), group)  # type: ignore[assignment]
            return facts
        folder = Path(folder)
        with removed_unless_started(folder), Run(folder).lock():
            return run_supernet(Run.create(folder, config, _provenance()), config, Overrides(), group)


def _moved(config: RunConfig, data: str | Path | None, storage: str | None) -> RunConfig:
    """The configuration with other places for what it names."""
    places = {"data": None if data is None else kind_of(config).data_sets.absolute(data)}
    places["storage"] = None if storage is None else without_password(storage)
    return config.model_copy(update={name: place for name, place in places.items() if place is not None})


# --- the options ------------------------------------------------------------------------------------------------


def _objective(name: str | Path | None, estimator: Any, latency: Any, budgets_ms: Sequence[float]) -> Objective:
    """The objective of that name (by default mnasnet_hard, pareto for several budgets) with other sources, if named."""
    objective = load_objective(name or ("pareto" if budgets_ms else "mnasnet_hard"))
    if isinstance(estimator, str):
        objective = updated(objective, {"accuracy": estimator.replace("-", "_")}, "--estimator")
    if isinstance(latency, str):
        objective = updated(objective, {"latency": latency}, "latency")
    return objective


def _data_name(data: str | Path | ImageData, kind: SearchKind[Any]) -> str:
    if isinstance(data, ImageData):
        return data.name
    if not isinstance(data, str | os.PathLike):
        raise BadInput(f"data of the type {type(data).__name__}: expected a name, a path, or mnas.load_data(...)")
    return kind.data_sets.absolute(data)


def _sizes(resolution: Sequence[Size | str] | str | None) -> list[Size | str] | None:
    if resolution is None:
        return None
    return [*(resolution.split(",") if isinstance(resolution, str) else resolution)]


def _count(value: int | str | None, option: str) -> int | None:
    return None if value is None else parse_count(str(value), option)


def _with_set(config: RunConfig, assignments: Mapping[str, Any]) -> RunConfig:
    """The configuration with every --set applied. Raises BadInput for a key that has an option of its own."""
    for key in assignments:
        if key in Target.model_fields:
            raise BadInput(f"--set {key}: belongs to one device: state it as --{key.replace('_', '-')}")
        if key == "budgets_ms":
            raise BadInput("--set budgets_ms: state the budgets as --latency-ms 5,10,15")
        if key == "without":
            raise BadInput(f"--set without: state the choices that are left out as --without {assignments[key]}")
    return with_keys(config, assignments)


def _check(config: RunConfig, overrides: Overrides) -> None:
    """Refuse what can be refused before a folder is made."""
    budgets = [target.latency_ms for target in config.targets]
    if None in budgets and not is_pareto(config.objective):
        raise BadInput("no latency budget: give --latency-ms, such as --latency-ms 15, or --objective pareto")
    if config.budgets_ms and not is_pareto(config.objective):
        raise BadInput(
            f"{len(config.budgets_ms)} latency budgets for one device, and the objective '{config.objective.name}' "
            "takes one: leave --objective out (several budgets use pareto), or give one --latency-ms"
        )
    if len(budgets) > 1 and overrides.latency is not None:
        raise BadInput(f"{len(budgets)} latency budgets and one latency callable: expected one budget")
    space = space_of(config, overrides.space)
    for name in config.baselines or (space.reference,):
        space.published(name)
    if overrides.sampler is None:
        make_sampler(config.sampler, config.seed)
    for target in config.targets if overrides.latency is None else ():
        if target.latency_table is None:
            get_runtime(target.runtime)
        else:
            path = Path(target.latency_table)
            admit_table(load_table(path), target, config, path)
    if config.workers_only and config.storage is None:
        raise BadInput("--workers-only: state the --storage that the workers share, such as env:NAME")
    kind = kind_of(config)
    kind.check(config)
    check_gpus(pick_device(config.device))
    require_exporters()
    check_start(config.init, config.pretrained, space.reference)
    if config.shared_supernet is not None:
        check_shared(config, space)
    if overrides.data is None:
        with _unheard("mnas.data"):  # the run opens them again, and what it says is in its log
            kind.open(config)


def _check_processes(config: RunConfig, group: ProcessGroup) -> None:
    if group.size > 1 and not kind_of(config).shared:
        raise BadInput(f"--task {config.task}: torchrun is for classification alone: search with a single process")


@contextmanager
def _unheard(name: str) -> Iterator[None]:
    """Drop what this logger says inside the block."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _provenance() -> dict[str, Any]:
    """Where, when and by which command the run began, for config.yaml."""
    return {
        "versions": versions(),
        "hardware": {"device": device_name(), "platform": platform.platform(), "cpus": os.cpu_count()},
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": hide_passwords(" ".join(Path(arg).name if i == 0 else arg for i, arg in enumerate(sys.argv))),
    }
