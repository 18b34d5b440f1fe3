"""Finished trials of a run handed over like its winner: trained on demand, by the recipe of its races."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mnas.config import RunConfig
from mnas.errors import BadInput
from mnas.estimators.weight_sharing import WeightSharing
from mnas.io.files import read_json
from mnas.latency.model import PREDICTED
from mnas.latency.timing.rounds import Measurement
from mnas.monitor.console import log_file
from mnas.monitor.figures import count
from mnas.pipeline.contenders import weights_of
from mnas.pipeline.context import Context, Overrides, full_trainer
from mnas.pipeline.kind import judged
from mnas.pipeline.kinds import kind_of
from mnas.pipeline.metrics import Goal, rows_of, write_winner
from mnas.pipeline.race import Contender
from mnas.pipeline.races_file import races_of
from mnas.pipeline.search import open_run
from mnas.pipeline.trainings import Leg, Trainings, starting_from
from mnas.run import Run
from mnas.space.cost import cost
from mnas.study.analysis import front_of
from mnas.study.trial import Trial
from mnas.training.distributed import SINGLE
from mnas.training.speed import fastest

log = logging.getLogger("mnas")

NAMED = 8
"""Trials that an error message names."""


def hand_over_trials(
    run: Run, numbers: Sequence[int] | None, output: Path | None = None
) -> list[dict[str, Any]]:
    """Write a folder like winner/ for each of these trials, or for all of the Pareto front: None.

    They go to front/trial-N in the run's folder, where a finished one stays as it is, or to `output`, which must be
    empty: the folder of a single trial, or the one that holds trial-N for each of the front. A trial that entered a
    race is trained on from where it was dropped. Returns the trial's number, the folder and the content of
    metrics.json for each.

    Raises BadInput for a run whose search is not finished, for trials that are not, and for a folder that is not empty;
    RunLocked while the run goes on.
    """
    config, trials = run.config(), _searched(run)
    chosen = front_of(trials) if numbers is None else [_finished(trials, number, run) for number in numbers]
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: exists and is not empty; name another folder with -o")
    wanted = [(trial, _folder(run, trial, output, single=numbers is not None)) for trial in chosen]
    left = [(trial, folder) for trial, folder in wanted if not (folder / "metrics.json").exists()]
    if left:
        _check_custom(run, config)
        with run.lock(), log_file(run.log_path):
            _train(run, config, left)
    return [{"trial": trial.number, "folder": str(folder), **read_json(folder / "metrics.json")}
            for trial, folder in wanted]  # fmt: skip


def _searched(run: Run) -> list[Trial]:
    """The trials of a run; BadInput where its search is not finished."""
    if not run.state().searched:
        raise BadInput(f"{run.folder}: the search of this run is not finished; continue it: mnas resume {run.folder}")
    return [Trial.from_json(record) for record in run.read_trials()]


def _finished(trials: Sequence[Trial], number: int, run: Run) -> Trial:
    """The finished trial of that number."""
    by_number = {trial.number: trial for trial in trials}
    front = ", ".join(str(trial.number) for trial in front_of(trials)[:NAMED])
    way_out = f"expected a finished trial, such as those of the front: {front}; {run.leaderboard_path.name} lists all"
    if number not in by_number:
        raise BadInput(f"--trial {number}: {run.folder} has no such trial; {way_out}")
    trial = by_number[number]
    if trial.state != "complete":
        raise BadInput(f"--trial {number}: this trial is {trial.state.replace('_', ' ')}; {way_out}")
    return trial


def _folder(run: Run, trial: Trial, output: Path | None, single: bool) -> Path:
    if output is not None and single:
        return output
    return (output or run.front) / f"trial-{trial.number}"


def _check_custom(run: Run, config: RunConfig) -> None:
    if "data" in config.custom:
        raise BadInput(
            f"{run.folder}: this run was given its data as a Python object, which no file keeps: its trials cannot be "
            "trained here; search with --data naming a folder or an .npz"
        )


def _train(run: Run, config: RunConfig, wanted: Sequence[tuple[Trial, Path]]) -> None:
    """Train and write the trials; sets the number of torch's threads."""
    known = {trial.architecture: trial.latency_ms for trial, _ in wanted}
    given = known.__getitem__ if "latency" in config.custom else None
    context, _ = open_run(run, config.model_copy(update={"baselines": ()}), Overrides(latency=given), SINGLE)
    context = context.decided()
    stated = run.state().recipe or context.config.recipe
    kind = kind_of(context.config)
    contenders = [_contender(context, trial) for trial, _ in wanted]
    trainer = full_trainer(context)
    largest = max((trial.architecture for trial, _ in wanted), key=lambda arch: cost(arch).madds)
    pace = fastest(largest, stated, trainer, threads=run.state().threads, precision=trainer.precision)
    torch.set_num_threads(pace.threads)
    trainings = Trainings(trainer, _sharing(context, contenders), run.checkpoints, context.board)
    for contender, (_, folder) in zip(contenders, wanted, strict=True):
        recipe = starting_from(contender.weights, stated, trainer.task.usual)
        log.info("training %s for %s, to %s", contender.name, count(recipe.epochs, "epoch"), folder)
        trained = trainings.of(Leg(contender, recipe, recipe.epochs, trainer.seed)).trained()
        network = judged(kind, [trained], trainer)
        rows = rows_of(kind, [network], "trained", trainer.task.outputs)
        write_winner(kind, context, [network], rows, Goal(folder, None), recipe, search={})
    context.board.close()


def _contender(context: Context, trial: Trial) -> Contender:
    """The trial as it entered a race, so that its training there is continued; or as a new one."""
    for entered, _ in races_of(context.run).values():
        for contender in entered:
            if contender.trial == trial.number:
                return contender
    latency = Measurement(trial.latency_ms, 0.0, PREDICTED)
    weights = weights_of(trial.architecture, context)
    return Contender(f"trial {trial.number}", trial.architecture, "found", latency, weights, trial=trial.number)


def _sharing(context: Context, contenders: Sequence[Contender]) -> WeightSharing | None:
    """The run's supernet, where one of the trainings starts from its weights."""
    if all(contender.weights != "inherited" for contender in contenders):
        return None
    sharing = WeightSharing(context.run, context.config, context.space, context.trainer)
    sharing.train(context.run.state().supernet or context.config.supernet, context.board)
    return sharing

