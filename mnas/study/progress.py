"""What a search shows while it runs: a progress bar, a log line and TensorBoard entries for each trial, the front."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mnas.io.size import written
from mnas.monitor.console import progress
from mnas.monitor.figures import NAMES, count
from mnas.monitor.pareto import PlottedTrial
from mnas.monitor.tensorboard import TensorBoard
from mnas.space.architecture import Architecture
from mnas.space.cost import cost
from mnas.study import objective
from mnas.study.analysis import best_so_far
from mnas.study.problem import Problem
from mnas.study.schedule import Schedule
from mnas.study.trial import ZERO_COST, Trial

log = logging.getLogger("mnas")

DRAW_EVERY_S, DRAW_EVERY_PART = 5.0, 0.02
"""Least seconds between two pictures of the front, and least part of the search so far: some hundred in a long one."""
ROWS = 300
"""Trials with a row of their own in TensorBoard's table; later ones get one where they are the best so far, or new on
the front."""


@contextmanager
def search_progress(
    problem: Problem, board: TensorBoard, trials: Sequence[Trial], schedule: Schedule,
    figure: str = "accuracy",
) -> Iterator[Callable[[Trial], None]]:  # fmt: skip
    """A progress bar for the length of a search, and the callback that shows each trial after the earlier `trials`.

    `figure` is what estimates are of: accuracy, miou or map.
    """
    shown, began = TrialBoard(problem, board, trials, figure), time.monotonic()

    with progress("search", 1.0) as bar:

        def show(trial: Trial) -> None:
            shown.add(trial)
            bar.update(schedule.fraction(shown.evaluated, began), 1.0, shown.standing)

        before = shown.evaluated
        yield show
    shown.draw()
    log.info("search: %s evaluated in %.0f s", count(shown.evaluated - before, "candidate"), time.monotonic() - began)


class TrialBoard:
    """The trials of a search so far, shown in the log and in TensorBoard as they are added."""

    def __init__(
        self, problem: Problem, board: TensorBoard, trials: Sequence[Trial] = (), figure: str = "accuracy"
    ):
        self._problem, self._board, self._figure = problem, board, figure
        self._complete, self._front = list[Trial](), list[objective.Point]()
        self._best: Trial | None = None
        self._most_accurate: Trial | None = None
        self._began, self._drawn_at = time.monotonic(), 0.0
        self.evaluated = 0
        """Number of trials for which an estimate was made."""
        for trial in trials:
            self._count(trial)

    @property
    def standing(self) -> str:
        """The number of candidates and the best one, in words."""
        best = self._best
        if best is None:
            return f"{count(self.evaluated, 'candidate')}, none within the budget yet"
        return f"{count(self.evaluated, 'candidate')}, best {self._said(best)} at {best.latency_ms:.2f} ms"

    def add(self, trial: Trial) -> None:
        """Add a trial, and show it if it has an accuracy of its own."""
        before = self._best, self._front
        self._count(trial)
        if not trial.evaluated or trial.accuracy is None:
            return
        self._write(trial, trial.accuracy)
        if self.evaluated <= ROWS or (self._best, self._front) != before:
            self._write_row(trial, trial.accuracy)
        now = time.monotonic()
        if now - self._drawn_at > max(DRAW_EVERY_S, DRAW_EVERY_PART * (now - self._began)):
            self.draw()
        log.info(
            "trial %d%s: %s, %s, %.2f ms, %.1f s; %s", trial.number, f" ({trial.name})" if trial.name else "",
            trial.state, trial.said(NAMES[self._figure]), trial.latency_ms, trial.seconds, self.standing,
        )  # fmt: skip

    def _count(self, trial: Trial) -> None:
        """What is known about all trials so far; each takes as long as the first."""
        self.evaluated += trial.evaluated
        if trial.state != "complete":
            return
        self._complete.append(trial)
        self._front = objective.front([*self._front, _point(trial)])
        self._best = self._problem.best(filter(None, [self._best, trial]))
        self._most_accurate = best_so_far(list(filter(None, [self._most_accurate, trial])), self._problem.budget_ms)[-1]

    def _write(self, trial: Trial, accuracy: float) -> None:
        """TensorBoard's scalars of one trial."""
        scalars = {f"trial/{name}": value for name, value in self._figures(trial, accuracy).items()}
        best = self._most_accurate
        if best is not None and best.accuracy is not None:
            scalars[f"best/feasible_{self._figure}"] = best.accuracy
        scalars["best/hypervolume"] = objective.hypervolume(self._front, self._problem.slowest_ms)
        self._board.trial(trial.number, scalars)

    def _write_row(self, trial: Trial, accuracy: float) -> None:
        """One trial in TensorBoard's table of hyperparameters."""
        costs = cost(trial.architecture, self._problem.num_classes)
        figures = self._figures(trial, accuracy) | {"madds": costs.madds, "params": costs.params}
        self._board.hparams(trial.number, stage_summaries(trial.architecture), figures, trial.curve, self._figure)

    def _figures(self, trial: Trial, accuracy: float) -> dict[str, float]:
        figures = {self._figure: accuracy, "latency_ms": trial.latency_ms}
        return figures if trial.reward is None else figures | {"reward": trial.reward}

    def _said(self, trial: Trial) -> str:
        return trial.said(NAMES[self._figure]).removeprefix(f"{NAMES[self._figure]} ")

    def draw(self) -> None:
        """The trials and their Pareto front as a picture in TensorBoard."""
        plotted = [
            PlottedTrial(t.accuracy or 0, t.latency_ms, t.name, t.fidelity == ZERO_COST)
            for t in self._complete
        ]  # fmt: skip
        front = self._front
        knee = objective.knee(front) if front and objective.is_pareto(self._problem.objective) else None
        self._board.pareto(plotted, front, self._problem.budgets_ms, self.evaluated, knee, NAMES[self._figure])
        self._drawn_at = time.monotonic()


def _point(trial: Trial) -> objective.Point:
    return trial.accuracy or 0, trial.latency_ms


def stage_summaries(arch: Architecture) -> dict[str, str | int]:
    """A network's resolution, stem and stages as short texts: operator, kernel, channels, SE, activation by layer."""
    stages = {
        f"stage{index}": " ".join(
            f"{block.operator}-k{block.kernel}-c{block.channels}" + (f"-h{block.hidden}" if block.hidden else "")
            + ("-se" if block.se else "") + f"-{block.activation}" for block in stage
        )
        for index, stage in enumerate(arch.stages, start=1)
    }  # fmt: skip
    return {"resolution": written(arch.resolution), "stem": arch.stem.channels, **stages}
