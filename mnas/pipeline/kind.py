"""What a search does by its task beside training: opens images, judges networks on the test split, writes winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from mnas.config import Recipe, RunConfig
from mnas.io.names import Names
from mnas.run import Run
from mnas.space.space import SearchSpace
from mnas.training.full import Trained
from mnas.training.trainer import Trainer

if TYPE_CHECKING:
    from mnas.pipeline.context import Context

J = TypeVar("J")


@dataclass(frozen=True)
class Judged(Generic[J]):
    """A trained network and what is known of it by the test images."""

    trained: Trained
    judgements: tuple[J, ...]
    """One a seed; the first one's network is `trained`, which is handed over."""


class SearchKind(Protocol[J]):
    """A search for networks of one task; `mnas.tasks.task.Task` has what their training needs.

    J is what is known of one network by the test images.
    """

    @property
    def head(self) -> str | None:
        """The head of all networks; None for a classifier."""

    @property
    def figure(self) -> str:
        """The name of the value (0..1) that decides, as files have it: accuracy, miou, map."""

    @property
    def data_sets(self) -> Names:
        """The built-in data sets, and paths."""

    @property
    def usual_data(self) -> str:
        """What is searched for unless --data is stated."""

    @property
    def recipes(self) -> Mapping[str, Any]:
        """The keys of recipes that differ from the default."""

    @property
    def shared(self) -> bool:
        """Whether torchrun's processes may share a search."""

    def check(self, config: RunConfig) -> None:
        """Refuse, before a folder is made, what has no use here. Raises BadInput."""

    def open(self, config: RunConfig) -> Any:
        """The images that a configuration names. Raises BadInput."""

    def data(self, run: Run, config: RunConfig, override: Any, space: SearchSpace | None) -> Any:
        """The images of a run; `override` are some that were given as an object, `space` one that was."""

    def trainer(self, config: RunConfig, space: SearchSpace, data: Any) -> Trainer:
        """The trainer of a run, whose images are decoded here."""

    # --- the end

    def judge(self, trained: Trained, trainer: Trainer) -> J:
        """Judge a network on the test split."""

    def row(self, network: Judged[J]) -> dict[str, Any]:
        """A network's figures in metrics.json: test_accuracy or what else decides, val_accuracy, those of all seeds."""

    def spread(self, network: Judged[J]) -> float | None:
        """Half the width of the 95% interval of the figure on the test split; None without test images."""

    def write(self, folder: Path, winner: Trained, context: Context, title: str) -> None:
        """Write the files of a winner that its latency needs."""

    def facts(self, context: Context, networks: Sequence[Judged[J]], recipe: Recipe) -> dict[str, Any]:
        """What metrics.json says of the first of the networks and its training, and how it compares with the others."""

    def write_metrics(self, folder: Path, metrics: dict[str, Any], trainer: Trainer) -> None:
        """Write metrics.json, and what else has its figures: the folder is complete then."""

    def show(self, context: Context, networks: Sequence[Judged[J]], metrics: Mapping[str, Any]) -> None:
        """Show and keep what else is known of a winner, the first of the networks."""

    def end(self, context: Context) -> None:
        """Say what is to be known of the test split, once all winners are written."""


def judged(kind: SearchKind[J], seeds: Sequence[Trained], trainer: Trainer) -> Judged[J]:
    """Judge a network, trained once a seed, on the test split: when nothing is left to decide."""
    return Judged(seeds[0], tuple(kind.judge(one, trainer) for one in seeds))
