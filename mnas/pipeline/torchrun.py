"""The other processes that torchrun started: they train the supernet with the main one and share the estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.estimators import Estimate, make_estimate, never
from mnas.estimators.factory import make_estimator
from mnas.estimators.weight_sharing import WeightSharing
from mnas.pipeline.context import Overrides, make_trainer, run_data, searched_space, space_like, with_estimator
from mnas.pipeline.origins import run_origins
from mnas.pipeline.trainings import Trainings
from mnas.pipeline.winners import Result
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.training.distributed import ProcessGroup


@dataclass(frozen=True)
class Job:
    """What the main process asks of the others."""

    folder: str
    threads: int
    candidate: Recipe
    select: bool
    supernet: SupernetRecipe | None
    accuracy: str
    """The estimator of accuracy."""


def work(config: RunConfig, overrides: Overrides, group: ProcessGroup) -> Result:
    """Work for the main process until its search ends; returns its result. All processes must see the run's folder."""
    job: Job | None = group.broadcast(None)
    if job is not None:
        _do(job, config, overrides, group)
    result: Result = group.broadcast(None)
    return result


def _do(job: Job, config: RunConfig, overrides: Overrides, group: ProcessGroup) -> None:
    torch.set_num_threads(job.threads)
    config = config.model_copy(update={"objective": with_estimator(config.objective, job.accuracy)})
    run, sharing = Run(Path(job.folder)), None
    with group.all_succeed():
        data = run_data(run, config, overrides.data, overrides.space)
        space = searched_space(run, config, overrides.space, data)
        origins = run_origins(run, config, space, data, decides=False)
        space = space_like(space, origins)
        precision = run.state().precision or "float32"
        trainer = replace(make_trainer(config, space, data), precision=precision, origins=origins)
        if job.supernet is not None:
            sharing = WeightSharing(run, config, space, trainer, group)
    if sharing is not None and job.supernet is not None:
        sharing.train(job.supernet)
    estimator = make_estimator(config, space, trainer, overrides.estimator, sharing, job.candidate, job.select)

    def estimate(arch: Architecture) -> Estimate:
        return make_estimate(estimator, arch, never)

    group.serve(estimate)
    full = replace(trainer.at_full_size(), origins=() if config.from_scratch else origins)
    group.serve(Trainings(full, sharing, run.checkpoints).run)
