"""A worker: it evaluates trials of a search that another process began, perhaps on another machine."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from mnas.config import RunConfig
from mnas.data.sources import DATA_SETS
from mnas.errors import BadInput
from mnas.estimators.factory import EstimatorCallable, make_estimator
from mnas.latency.model import tabled_model
from mnas.latency.table.table import load_table
from mnas.nn.weights import weights_file
from mnas.pipeline.assignment import Assignment, budgets_of, digests, is_over, read_assignment, write_tables
from mnas.pipeline.context import make_trainer, run_data, searched_space, space_like
from mnas.pipeline.origins import run_origins
from mnas.run import Run
from mnas.study.constraints import constraints_of
from mnas.study.database import PatientStorage, open_storage
from mnas.study.optuna_log import quiet_optuna
from mnas.study.problem import Problem
from mnas.study.sampler import search_sampler
from mnas.study.shared import POLL_S, Evaluator
from mnas.study.storage import median_pruner
from mnas.training.device import pick_device

log = logging.getLogger("mnas")

WAIT_S = 600.0
"""How long a worker waits for its search, and then for a trial, by default."""


@dataclass(frozen=True)
class Local:
    """What a worker has of its own."""

    data: str | Path | None = None
    device: str | None = None
    estimator: EstimatorCallable | None = None
    init: str | Path | None = None
    """A copy of the search's file of weights."""


@quiet_optuna()
def run_worker(url: str, name: str, local: Local, wait_s: float) -> dict[str, Any]:
    """Evaluate trials of the run `name` until it has all; how many this process ended and evaluated.

    Raises BadInput where the search does not begin within `wait_s`, shares no trials, or has other images. Without a
    trial for `wait_s` the worker ends too.
    """
    storage = open_storage(url, heartbeat_s=RunConfig.model_fields["heartbeat_s"].default, patience_s=wait_s)
    try:
        return _worked(storage, name, local, wait_s)
    finally:
        storage.close()


def _worked(storage: PatientStorage, name: str, local: Local, wait_s: float) -> dict[str, Any]:
    study, assignment = _found(storage, name, time.monotonic() + wait_s)
    if assignment.refusal is not None:
        raise BadInput(f"run {name}: shares no trials: {assignment.refusal}")
    config = _config(assignment, local)
    storage.heartbeat_interval, storage.patience_s = config.heartbeat_s, config.patience_s
    if is_over(study):
        return _done(name, 0, 0)
    with tempfile.TemporaryDirectory(prefix="mnas-worker-") as folder:
        evaluator = _evaluator(Run(folder), assignment, config, local, (study, storage))
        return _work(study, evaluator, name, wait_s)


def _found(storage: PatientStorage, name: str, deadline: float) -> tuple[optuna.Study, Assignment]:
    """The study of a run, once its search has begun."""
    told = False
    while True:
        studies = sorted(study.study_name for study in storage.get_all_studies())
        known = ", ".join(studies) or "none"
        if name in studies:
            study = optuna.load_study(study_name=name, storage=storage)
            assignment = read_assignment(study)
            if assignment is not None:
                return study, assignment
        if not told:
            log.info("waiting for the search of run %s; the storage has: %s", name, known)
            told = True
        if time.monotonic() > deadline:
            raise BadInput(f"--run {name}: no search of that name began in this storage; it has: {known}")
        time.sleep(POLL_S)


def _config(assignment: Assignment, local: Local) -> RunConfig:
    config = assignment.run_config
    own: dict[str, Any] = {"data": None if local.data is None else DATA_SETS.absolute(local.data)}
    own |= {"device": local.device, "init": _weights(assignment.run_config.init, local.init)}
    if "estimator" in config.custom and local.estimator is None:
        raise BadInput("this search estimates accuracies by a Python callable: mnas.worker(..., estimator=callable)")
    return config.model_copy(update={key: value for key, value in own.items() if value is not None})


def _weights(there: str | None, here: str | Path | None) -> str | None:
    """The file of weights from which networks start, where it is on this machine; None where the search names none."""
    if there is None:
        if here is not None:
            raise BadInput(f"--init {here}: the networks of this search start from no file")
        return None
    path = os.path.abspath(there if here is None else here)
    if not weights_file(path).exists():
        raise BadInput(f"{path}: the search's networks start from this file; it is not here: name a copy with --init")
    return path


def _evaluator(
    run: Run, assignment: Assignment, config: RunConfig, local: Local, shared: tuple[optuna.Study, PatientStorage]
) -> Evaluator:
    """What evaluates trials here; `run` is a folder for this process alone."""
    study, storage = shared
    pick_device(config.device)
    run.update_state(resolutions=assignment.resolutions)
    data = run_data(run, config, None)
    if data.division is None or data.division.digest != assignment.division:
        raise BadInput(
            f"{config.data}: these are not the search's images in the same splits: name the same data with --data"
        )
    space = searched_space(run, config, None, data)
    origins = run_origins(run, config, space, data, decides=True)
    if digests(run, origins) != assignment.weights:
        raise BadInput(
            "the weights from which networks start are not the search's: fetch those, or name a copy with --init"
        )
    space = space_like(space, origins)
    trainer = replace(make_trainer(config, space, data), precision=assignment.precision, origins=origins)
    tables = [load_table(path) for path in write_tables(assignment, run)]
    latency = tabled_model(config, tables, data.num_classes)
    problem = Problem(
        space, config.objective, latency.predict, fastest=assignment.fastest_network, slowest_ms=assignment.slowest_ms,
        budgets_ms=budgets_of(config), constraints=constraints_of(config, data.num_classes),
        num_classes=data.num_classes,
    )  # fmt: skip
    estimator = make_estimator(config, space, trainer, local.estimator, None, config.proxy, False)
    study.sampler = search_sampler(
        config.sampler, problem, seed=config.seed, quick=True, counted=estimator.images
    )
    study.pruner = median_pruner(assignment.prune_after)
    return Evaluator(study, storage, problem, estimator)


def _work(study: optuna.Study, evaluator: Evaluator, name: str, wait_s: float) -> dict[str, Any]:
    trials, evaluated, last = 0, 0, time.monotonic()
    while True:
        trial = evaluator.evaluate_next()
        if trial is not None:
            trials, evaluated, last = trials + 1, evaluated + trial.evaluated, time.monotonic()
            log.info(
                "trial %d: %s, %s, %.2f ms, %.1f s", trial.number, trial.state, trial.summary, trial.latency_ms,
                trial.seconds,
            )  # fmt: skip
        elif is_over(study):
            return _done(name, trials, evaluated)
        elif time.monotonic() - last > wait_s:
            log.info("no trial for %.0f s: this worker ends", wait_s)
            return _done(name, trials, evaluated)
        else:
            time.sleep(POLL_S)


def _done(name: str, trials: int, evaluated: int) -> dict[str, Any]:
    return {"run": name, "trials": trials, "evaluated": evaluated}
