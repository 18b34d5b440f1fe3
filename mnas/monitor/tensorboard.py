"""TensorBoard: scalars, hyperparameters, the Pareto front and the confusion matrix of a run."""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mnas.io.markdown import escaped
from mnas.monitor.confusion import draw_confusion
from mnas.monitor.pareto import PlottedTrial, draw_pareto

if TYPE_CHECKING:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter


log = logging.getLogger("mnas")
Write = TypeVar("Write", bound=Callable[..., None])


def _while_there_is_room(write: Write) -> Write:
    """A method of TensorBoard that does nothing from its first failure on: figures are not worth a search."""

    @functools.wraps(write)
    def written(board: TensorBoard, *args: Any, **options: Any) -> None:
        if board.full:
            return
        try:
            write(board, *args, **options)
        except OSError as error:
            board.full = True
            log.warning("%s: no more figures can be written there: %s", board.folder, error.strerror or error)

    return cast(Write, written)


def _quiet_writer() -> None:
    """Hide the traceback of tensorboard's writing thread on a full disk; the main thread gets the error as well."""
    shown = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (type(args.thread).__module__.startswith("tensorboard.") and issubclass(args.exc_type, OSError)):
            shown(args)

    threading.excepthook = hook


class TensorBoard:
    """Event files of one run under `folder`, which the first figure creates; `tensorboard --logdir runs` shows them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.full = False
        """Whether the disk has refused a figure."""

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        _quiet_writer()
        return SummaryWriter(str(self.folder), flush_secs=5)

    @_while_there_is_room
    def trial(self, number: int, figures: Mapping[str, float]) -> None:
        """Scalars of one trial, such as trial/accuracy and best/hypervolume."""
        for tag, value in figures.items():
            self._writer.add_scalar(tag, value, number)
        self._writer.flush()

    @_while_there_is_room
    def hparams(
        self, number: int, choices: Mapping[str, str | int | float], figures: Mapping[str, float],
        curve: Sequence[float], figure: str = "accuracy",
    ) -> None:  # fmt: skip
        """One trial's row in the hparams table; `curve` is its `figure` after each epoch."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        table = hparams(dict(choices), {f"hparam/{tag}": value for tag, value in figures.items()})  # type: ignore[no-untyped-call]
        with SummaryWriter(str(self.folder / "trials" / f"{number:04d}")) as writer:
            for summary in table:
                writer._get_file_writer().add_summary(summary)
            for tag, value in figures.items():
                writer.add_scalar(f"hparam/{tag}", value, number)
            for epoch, value in enumerate(curve, start=1):
                writer.add_scalar(f"candidate/{figure}", value, epoch)

    @_while_there_is_room
    def training(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Scalars of one epoch of a network's training, such as train_winner/loss."""
        for tag, value in figures.items():
            self._writer.add_scalar(f"train_{name}/{tag}", value, epoch)
        self._writer.flush()

    @_while_there_is_room
    def supernet(self, step: int, figures: Mapping[str, float]) -> None:
        """Scalars of a supernet's training up to a step: losses, accuracies, learning rate, images/s."""
        for tag, value in figures.items():
            self._writer.add_scalar(f"supernet/{tag}", value, step)
        self._writer.flush()

    @_while_there_is_room
    def pareto(
        self, trials: Sequence[PlottedTrial], front: Sequence[tuple[float, float]], budgets_ms: Sequence[float],
        step: int, knee: tuple[float, float] | None = None, figure: str = "accuracy",
    ) -> None:  # fmt: skip
        """The picture of `draw_pareto`, after `step` evaluations."""
        self._writer.add_figure("pareto", draw_pareto(trials, front, budgets_ms, knee, figure), step)
        self._writer.flush()

    @_while_there_is_room
    def confusion(self, name: str, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
        """The picture of `draw_confusion` for a network: counts (classes, classes) of a class (row) and predictions."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # it draws a box
            self._writer.add_figure(f"confusion_{name}", draw_confusion(confusion, classes, name))
        self._writer.flush()

    @_while_there_is_room
    def picture(self, tag: str, image: Image.Image) -> None:
        """An RGB picture, such as predictions of a network."""
        self._writer.add_image(tag, np.asarray(image), dataformats="HWC")
        self._writer.flush()

    @_while_there_is_room
    def text(self, tag: str, markdown: str) -> None:
        """A text in Markdown."""
        self._writer.add_text(tag, markdown)
        self._writer.flush()

    @_while_there_is_room
    def close(self) -> None:
        """Close the event file, if there is one; a later figure opens another one."""
        if "_writer" in self.__dict__:
            self._writer.close()


def markdown_table(figures: Mapping[str, Any]) -> str:
    """A Markdown table with a row for each figure, of those that are no lists or mappings."""
    plain = {name: value for name, value in figures.items() if not isinstance(value, Mapping | list | tuple)}
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in plain.items()}
    cells = {escaped(name.replace("_", " ")): escaped(str(value)) for name, value in shown.items()}
    rows = "\n".join(f"| {name} | {value} |" for name, value in cells.items())
    return f"| figure | value |\n|---|---|\n{rows}\n"
