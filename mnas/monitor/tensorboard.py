"""TensorBoard: scalars, hyperparameters and the Pareto front of a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


class PlottedTrial(NamedTuple):
    """A finished trial in the picture of the front."""

    accuracy: float
    """0..1, on the search-validation split."""
    latency_ms: float
    name: str
    """A reference network's name, or empty."""


class TensorBoard:
    """Event files of one run under `folder`, which the first figure creates; `tensorboard --logdir runs` shows them."""

    def __init__(self, folder: Path):
        self._folder = folder

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), flush_secs=5)

    def trial(self, number: int, figures: Mapping[str, float]) -> None:
        """Scalars of one trial, such as trial/accuracy and best/hypervolume."""
        for tag, value in figures.items():
            self._writer.add_scalar(tag, value, number)
        self._writer.flush()

    def hparams(
        self, number: int, choices: Mapping[str, str | int | float], figures: Mapping[str, float],
        curve: Sequence[float],
    ) -> None:  # fmt: skip
        """One trial's row in the hparams table; `curve` is its accuracy after each epoch."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        table = hparams(dict(choices), {f"hparam/{tag}": value for tag, value in figures.items()})  # type: ignore[no-untyped-call]
        with SummaryWriter(str(self._folder / "trials" / f"{number:04d}")) as writer:
            for summary in table:
                writer._get_file_writer().add_summary(summary)
            for tag, value in figures.items():
                writer.add_scalar(f"hparam/{tag}", value, number)
            for epoch, value in enumerate(curve, start=1):
                writer.add_scalar("candidate/accuracy", value, epoch)

    def training(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Scalars of one epoch of a network's training, such as train_winner/loss."""
        for tag, value in figures.items():
            self._writer.add_scalar(f"train_{name}/{tag}", value, epoch)
        self._writer.flush()

    def supernet(self, step: int, figures: Mapping[str, float]) -> None:
        """Scalars of a supernet's training up to a step: losses, accuracies, learning rate, images/s."""
        for tag, value in figures.items():
            self._writer.add_scalar(f"supernet/{tag}", value, step)
        self._writer.flush()

    def pareto(
        self, trials: Sequence[PlottedTrial], front: Sequence[tuple[float, float]], budgets_ms: Sequence[float],
        step: int, knee: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        """The picture of `draw_pareto`, after `step` evaluations."""
        self._writer.add_figure("pareto", draw_pareto(trials, front, budgets_ms, knee), step)
        self._writer.flush()

    def text(self, tag: str, markdown: str) -> None:
        """A text in Markdown."""
        self._writer.add_text(tag, markdown)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file, if there is one; a later figure opens another one."""
        if "_writer" in self.__dict__:
            self._writer.close()


def draw_pareto(
    trials: Sequence[PlottedTrial], front: Sequence[tuple[float, float]], budgets_ms: Sequence[float] = (),
    knee: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Accuracy over latency: trials, the front as steps, its knee, named reference networks, budgets as lines.

    `front` and `knee` are (accuracy in 0..1, latency in ms); the front goes from fast to slow.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.8), dpi=140)
    axes = figure.add_axes((0.12, 0.13, 0.85, 0.83))
    unnamed = [trial for trial in trials if not trial.name]
    references = [trial for trial in trials if trial.name]
    axes.scatter([t.latency_ms for t in unnamed], [100 * t.accuracy for t in unnamed], s=18, alpha=0.6, label="trials")
    if front:
        axes.step([ms for _, ms in front], [100 * accuracy for accuracy, _ in front], where="post", label="front")
    if knee is not None:
        axes.scatter([knee[1]], [100 * knee[0]], marker="o", s=90, facecolors="none", edgecolors="red", label="knee")
    if references:
        axes.scatter(
            [t.latency_ms for t in references], [100 * t.accuracy for t in references], marker="*", s=90,
            color="black", label="reference networks",
        )  # fmt: skip
    for trial in references:
        place = trial.latency_ms, 100 * trial.accuracy
        axes.annotate(trial.name, place, fontsize=7, xytext=(4, -9), textcoords="offset points")
    for budget_ms in budgets_ms:
        axes.axvline(budget_ms, color="red", linestyle="--", linewidth=1, label=f"budget {budget_ms:g} ms")
    axes.set_xlabel("latency (ms)")
    axes.set_ylabel("accuracy on the search-validation split (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def markdown_table(figures: Mapping[str, Any]) -> str:
    """A Markdown table with a row for each figure."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    return f"| | |\n|---|---|\n{rows}\n"
