"""A worker: a process that torchrun started beside the main one, to train the supernet and to share the estimates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.estimators import Estimate, make_estimate, never
from mnas.estimators.factory import make_estimator
from mnas.estimators.weight_sharing import WeightSharing
from mnas.pipeline.context import Overrides, make_trainer, space_of
from mnas.pipeline.winners import Result
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.training.distributed import ProcessGroup


@dataclass(frozen=True)
class Job:
    """What the main process asks of the workers."""

    folder: str
    threads: int
    candidate: Recipe
    select: bool
    supernet: SupernetRecipe | None


def work(config: RunConfig, overrides: Overrides, group: ProcessGroup) -> Result:
    """Work for the main process until its search ends; returns its result. All processes must see the run's folder."""
    job: Job | None = group.broadcast(None)
    if job is not None:
        _do(job, config, overrides, group)
    result: Result = group.broadcast(None)
    return result


def _do(job: Job, config: RunConfig, overrides: Overrides, group: ProcessGroup) -> None:
    torch.set_num_threads(job.threads)
    sharing = None
    with group.all_succeed():
        space = space_of(config, overrides.space)
        trainer = make_trainer(config, space, overrides.data)
        if job.supernet is not None:
            sharing = WeightSharing(Run(Path(job.folder)), config, space, trainer, group)
    if sharing is not None and job.supernet is not None:
        sharing.train(job.supernet)
    estimator = make_estimator(config, space, trainer, overrides.estimator, sharing, job.candidate, job.select)

    def estimate(arch: Architecture) -> Estimate:
        return make_estimate(estimator, arch, never)

    group.serve(estimate)
