"""The tasks with a head by their names: which heads each has, how its data are opened, and the task itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from mnas.data.dense.samples import DenseData
from mnas.data.dense.sources import load_detection, load_segmentation
from mnas.errors import BadInput, nearest
from mnas.space.dense import DenseHead
from mnas.space.layer import HEADS, DenseOperator
from mnas.tasks.detection import Detection
from mnas.tasks.segmentation import Segmentation

CLASSIFICATION = "classification"
"""The task without a head of its own."""
DenseTasks = Segmentation | Detection


class Kind(NamedTuple):
    """A task before its data are known."""

    heads: tuple[DenseOperator, ...]
    """The usual one first."""
    load: Callable[..., DenseData[Any]]
    task: type[Segmentation] | type[Detection]
    background: int
    """Classes that the head has beside those of the data."""

    def of(self, data: DenseData[Any], head: str) -> DenseTasks:
        """The task for these data. Raises MissingDependency where what judges it is not installed."""
        return self.task(data, DenseHead(cast(DenseOperator, head), len(data.classes) + self.background))


KINDS = {
    "segmentation": Kind(("lraspp", "deeplabv3"), load_segmentation, Segmentation, 0),
    "detection": Kind(("ssdlite",), load_detection, Detection, 1),
}


class Chosen(NamedTuple):
    """What a network is trained for."""

    kind: Kind
    head: str

    def of(self, data: DenseData[Any]) -> DenseTasks:
        """The task for these data. Raises MissingDependency where what judges it is not installed."""
        return self.kind.of(data, self.head)


def chosen_task(task: str, head: str | None) -> Chosen | None:
    """The task and the head of these names, the usual one for None; None for classification. Raises BadInput."""
    if task not in KINDS and task != CLASSIFICATION:
        raise BadInput(f"--task {task}{nearest(task, [CLASSIFICATION, *KINDS])}")
    if head is not None and head not in HEADS:
        raise BadInput(f"--head {head}{nearest(head, HEADS)}")
    heads = KINDS[task].heads if task in KINDS else ()
    if head is not None and head not in heads:
        right = next(name for name, kind in KINDS.items() if head in kind.heads)
        raise BadInput(f"--head {head} and --task {task}: this head is for --task {right}")
    return Chosen(KINDS[task], head or heads[0]) if heads else None
