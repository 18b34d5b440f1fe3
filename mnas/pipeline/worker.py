"""What a process does that torchrun started beside the leading one: train the supernet with it, share its estimates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mnas.config import Recipe, RunConfig, SupernetRecipe
from mnas.estimators import Estimate, estimated, never
from mnas.estimators.factory import accuracy_source
from mnas.estimators.weight_sharing import WeightSharing
from mnas.pipeline.search import Objects, space_of
from mnas.pipeline.winners import Result
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.training.device import pick_device
from mnas.training.distributed import Peers
from mnas.training.task import task_of


def follow(config: RunConfig, given: Objects, peers: Peers) -> Result:
    """Work for the leader of `peers` until its search ends; its result. All must see the run's folder."""
    asked: dict[str, Any] | None = peers.told(None)
    if asked is not None:
        _work(config, given, peers, asked)
    return peers.told(None)


def _work(config: RunConfig, given: Objects, peers: Peers, asked: dict[str, Any]) -> None:
    torch.set_num_threads(asked["threads"])
    sharing = None
    with peers.agreed():
        space, device = space_of(config, given), pick_device(config.device)
        task = task_of(config, space, given.data)
        if asked["supernet"] is not None:
            sharing = WeightSharing(Run(Path(asked["folder"])), space, config, task, device=device, peers=peers)
    if sharing is not None:
        sharing.train(SupernetRecipe(**asked["supernet"]))
    proxy = Recipe(**asked["proxy"])
    estimator = accuracy_source(config, given.estimator, space, task, device, sharing, proxy, asked["select"])

    def estimate(arch: Architecture) -> Estimate:
        return estimated(estimator, arch, never)

    peers.serve(estimate)
