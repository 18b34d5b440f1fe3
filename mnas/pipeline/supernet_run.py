"""A supernet trained alone, in a folder of its own, for searches to come."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch

from mnas.config import RunConfig, SupernetRecipe
from mnas.data.sources import ImageData
from mnas.data.splits import limited
from mnas.errors import BadInput
from mnas.estimators.weight_sharing import WeightSharing
from mnas.io.files import read_json, require_space, write_json
from mnas.io.size import written
from mnas.io.versions import versions
from mnas.monitor.console import log_file
from mnas.monitor.figures import count
from mnas.monitor.tensorboard import TensorBoard
from mnas.pipeline.clock import RunClock, duration
from mnas.pipeline.context import Overrides, make_trainer, run_data, searched_space, space_like
from mnas.pipeline.origins import origin_facts, run_origins
from mnas.pipeline.plan import MAX_EPOCHS_FACTOR
from mnas.pipeline.planning import MIN_SUPERNET_STEPS
from mnas.pipeline.search import NEEDED_BYTES
from mnas.pipeline.shared_supernet import with_published_supernet
from mnas.pipeline.torchrun import Job
from mnas.run import Run
from mnas.space.space import SearchSpace
from mnas.training.distributed import SINGLE, ProcessGroup
from mnas.training.recipe import steps_an_epoch
from mnas.training.speed import fastest, supernet_speed
from mnas.training.trainer import Trainer

log = logging.getLogger("mnas")

FACTS = "supernet.json"
"""What a trained supernet's folder says about it."""
LONGER = 2
"""A supernet that is to serve many searches is trained for so many times the epochs of one search's own."""
ENOUGH_STEPS = 1000
"""Steps that a supernet gets by more epochs where the images are few, if their number is not stated."""


def run_supernet(
    run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup = SINGLE
) -> dict[str, Any]:
    """Train the supernet of a run, or the rest of it, in the process that owns the folder; the facts about it."""
    clock = RunClock(run)
    with log_file(run.log_path), clock.kept():
        try:
            if run.supernet_weights.exists() and (run.folder / FACTS).exists():
                log.info("this supernet is trained: %s", run.folder)
                group.broadcast(None)
                return group.broadcast(read_json(run.folder / FACTS))
            return group.broadcast(_train(run, config, overrides, group, clock))
        except KeyboardInterrupt:
            log.warning("interrupted; the same command continues the training in %s", run.folder)
            raise


def _train(
    run: Run, config: RunConfig, overrides: Overrides, group: ProcessGroup, clock: RunClock
) -> dict[str, Any]:
    require_space(run.folder, NEEDED_BYTES)
    data = run_data(run, config, overrides.data, overrides.space)
    space = searched_space(run, config, overrides.space, data)
    origins = run_origins(run, config, space, data, decides=True)
    space, config = space_like(space, origins), with_published_supernet(config, origins)
    trainer, board = replace(make_trainer(config, space, data), origins=origins), TensorBoard(run.tensorboard)
    trainer, recipe = _planned(run, config, space, trainer, clock, group.size)
    job = Job(str(run.folder), torch.get_num_threads(), config.finetune, False, recipe, "supernet")
    group.broadcast(job)
    with group.all_succeed():  # the workers are ready, or say why not
        pass
    sharing = WeightSharing(run, config, space, trainer, group)
    sharing.train(recipe, board, clock.save)
    for _ in range(2):  # they wait for candidates, then for contenders
        group.release()
    images = len(limited(data.train, recipe.images, config.seed))
    steps = recipe.epochs * _steps_an_epoch(recipe, images, group.size)
    facts = {**_facts(run, space, data, clock), "epochs": recipe.epochs, "steps": steps, **sharing.accuracies()}
    write_json(run.folder / FACTS, facts)
    board.close()
    log.info("supernet of %s: %s", space.name, run.folder)
    return facts


def _planned(
    run: Run, config: RunConfig, space: SearchSpace, trainer: Trainer, clock: RunClock, processes: int
) -> tuple[Trainer, SupernetRecipe]:
    """The trainer in the faster precision, and the recipe for the time; kept for a resume. Sets torch's threads."""
    state = run.state()
    pace = fastest(
        space.rival(space.reference)[1], config.recipe, trainer, threads=state.threads,
        precision=state.precision or config.precision,
    )  # fmt: skip
    torch.set_num_threads(pace.threads)
    trainer = replace(trainer, precision=pace.precision)
    recipe = state.supernet or config.supernet
    images = len(limited(trainer.data.train, recipe.images, config.seed))
    an_epoch = _steps_an_epoch(recipe, images, processes)
    epoch_s = images / (processes * supernet_speed(space, recipe, trainer))
    if state.supernet is None:
        left_s = None if config.budget_s is None else config.budget_s - clock.elapsed_s()
        recipe = recipe.model_copy(update={"epochs": _epochs(recipe, an_epoch, epoch_s, left_s)})
    run.update_state(threads=pace.threads, precision=pace.precision, supernet=recipe, estimator="supernet")
    log.info(
        "a supernet of space %s is trained for %s, %d steps (about %s), in %s, threads: %d", space.name,
        count(recipe.epochs, "epoch"), recipe.epochs * an_epoch, duration(recipe.epochs * epoch_s), pace.precision,
        pace.threads,
    )  # fmt: skip
    if recipe.epochs * an_epoch < MIN_SUPERNET_STEPS and not trainer.origins:
        log.warning(
            "supernet: in fewer than %d steps it learns too little to tell networks apart: more epochs would help "
            "(--set supernet.epochs=%d)", MIN_SUPERNET_STEPS, -(-MIN_SUPERNET_STEPS // an_epoch),
        )  # fmt: skip
    return trainer, recipe


def _epochs(recipe: SupernetRecipe, steps: int, epoch_s: float, left_s: float | None) -> int:
    """The epochs of a training in `left_s`, or of the recipe; enough of them where each has few steps."""
    enough = -(-ENOUGH_STEPS // steps)
    if left_s is None:
        return max(LONGER * recipe.epochs, enough) if recipe.epochs == SupernetRecipe().epochs else recipe.epochs
    if left_s < epoch_s:
        raise BadInput(
            f"--budget: one epoch of this supernet takes {duration(epoch_s)} here; give more, or fewer images (--set "
            "supernet.images=...)"
        )
    return min(max(MAX_EPOCHS_FACTOR * recipe.epochs, enough), int(left_s / epoch_s))


def _steps_an_epoch(recipe: SupernetRecipe, images: int, processes: int) -> int:
    """Steps of an epoch in which each process takes a batch of its own."""
    return steps_an_epoch(recipe.model_copy(update={"batch_size": processes * recipe.batch_size}), images)


def _facts(run: Run, space: SearchSpace, data: ImageData, clock: RunClock) -> dict[str, Any]:
    """What supernet.json says."""
    return {
        "space": space.name, "resolutions": [written(size) for size in space.resolutions], "data": data.name,
        "classes": list(data.classes), "train_images": len(data.train),
        "pretrained": origin_facts(run), "seconds": round(clock.elapsed_s(), 1), "versions": versions(),
        "folder": str(run.folder),
    }  # fmt: skip
