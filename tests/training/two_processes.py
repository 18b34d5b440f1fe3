"""What test_distributed.py starts with torchrun: steps of a supernet, or a search whose latencies are no noise."""

import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mnas
from mnas.config import SupernetRecipe
from mnas.estimators import Estimate
from mnas.io.interrupt import listen
from mnas.monitor.console import Progress
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline import plan, running_race, torchrun
from mnas.pipeline.trainings import Leg, Trainings
from mnas.space.cost import cost
from mnas.tasks.classification import Classification
from mnas.training import speed, supernet
from mnas.training.distributed import ProcessGroup, process_group
from mnas.training.full import Standing
from mnas.training.sizes import TrainingSizes
from mnas.training.supernet import SupernetTraining
from mnas.training.trainer import Trainer

RECIPE = SupernetRecipe(epochs=5, batch_size=16, images=128, clip_norm=1e6)


class Apart(ProcessGroup):
    """Takes its part of the images, and keeps its gradients to itself."""

    def average(self, gradients: Sequence[torch.Tensor]) -> None:
        pass


def training(space: mnas.SearchSpace, group: ProcessGroup, seed: int = 0) -> SupernetTraining:
    torch.manual_seed(seed)
    digits = mnas.load_data("digits")
    return SupernetTraining(
        mnas.Supernet(space, 10), RECIPE,
        Trainer(Classification(digits), TrainingSizes(32, 32), torch.device("cpu"), 0), group=group,
    )


def gradients(one: SupernetTraining) -> list[torch.Tensor]:
    one._train_step(*next(one._data(1)))
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in one.supernet.parameters()]


def steps(folder: Path) -> None:
    """Writes what each process saw of one step and had after all of them."""
    space = mnas.load_space(folder / "tiny.yaml")
    with process_group() as group:
        own = gradients(training(space, Apart(group.rank, group.size)))
        whole = training(space, group, seed=group.rank)
        mean = gradients(training(space, group))
        subnets = [[arch.id for arch in whole.subnets(step)] for step in range(whole.steps)]
        losses = [interval.losses for interval in whole.run()]
        torch.save(
            {"own": own, "mean": mean, "subnets": subnets, "losses": losses, "steps": whole.step,
             "weights": dict(whole.supernet.named_parameters()), "buffers": dict(whole.supernet.named_buffers())},
            folder / f"{group.rank}.pt",
        )  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_a_candidate() -> None:
    """Have a worker killed with one candidate of a batch evaluated, and another one not."""
    estimate, begun = torchrun.make_estimate, list[Any]()

    def dying(*args: Any) -> Estimate:
        begun.append(args)
        if len(begun) == 2:
            die()
        return estimate(*args)

    torchrun.make_estimate = dying  # type: ignore[attr-defined]


def die_in_the_race() -> None:
    """Have a process killed in the middle of a contender's training."""
    update = Progress.update

    def dying(self: Progress, completed: float, *args: Any, **options: Any) -> None:
        if self._title.startswith("train ") and completed == 2:
            die()
        update(self, completed, *args, **options)

    Progress.update = dying  # type: ignore[method-assign]


def search(folder: Path, run: Path, epochs: int, images: int, interval: int, killed: int = 0) -> None:
    """A whole search; a checkpoint is written after each `interval` steps of the supernet.

    If it is to be `killed`, that is worker 1 of the first start in an evaluation, the main process of the next in the
    race.
    """
    logging.getLogger("mnas").addHandler(logging.StreamHandler())
    listen()
    supernet.CHECKPOINT_S, supernet.INTERVAL = 0.0, interval
    for name in ("pareto", "confusion"):
        setattr(TensorBoard, name, lambda *args, **options: None)
    speed.MEASURED_S = 0.0
    plan.SELECT_ABOVE_S = math.inf  # on a busy machine the estimated cost would decide whether candidates are pruned
    running_race.RunningRace.affords = lambda *_: True  # type: ignore[method-assign]  # nor whether ties train on
    running_race.LEAST_STEPS = 0
    rank, life = os.environ.get("RANK", "0"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    (folder / f"{run.name}-{rank}-{life}.pid").write_text(str(os.getpid()))
    if killed and (rank, life) == ("1", "0"):
        die_at_a_candidate()
    if killed and (rank, life) == ("0", "1"):
        die_in_the_race()
    run_leg = Trainings.run

    def noted(trainings: Trainings, leg: Leg) -> Standing | None:
        with (folder / f"{run.name}-{rank}.legs").open("a") as file:
            file.write(f"{leg.contender.name} until {leg.epochs}\n")
        return run_leg(trainings, leg)

    Trainings.run = noted  # type: ignore[method-assign]
    mnas.search(
        space=folder / "tiny.yaml", latency_ms=100, latency=lambda arch: cost(arch).madds / 1e6, trials=6, run=run,
        estimator="supernet", baseline=["mobilenet_v3_small@0.35"], resolution=[32],
        set={"supernet.epochs": epochs, "supernet.images": images, "supernet.batch_size": 16, "supernet.lr": 1.0,
             "finetune_epochs": 0.2, "finetune.lr": 0.5, "finalists": 2,
             "references": 1,
             "recipe.epochs": 3, "recipe.images": 64, "precision": "float32"},
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, where, *more = sys.argv[1:]
    if what == "steps":
        steps(Path(where))
    else:
        search(Path(where), Path(where) / more[0], *map(int, more[1:]))
