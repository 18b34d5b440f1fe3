"""The kinds of searches by their tasks."""

from __future__ import annotations

from typing import Any

from mnas.config import RunConfig
from mnas.pipeline.classification import ClassificationSearch
from mnas.pipeline.dense import DenseSearch
from mnas.pipeline.kind import SearchKind
from mnas.tasks.kinds import chosen_task


def search_kind(task: str, head: str | None) -> SearchKind[Any]:
    """The search for networks of a task, under its usual head for None. Raises BadInput for unknown names."""
    chosen = chosen_task(task, head)
    return ClassificationSearch() if chosen is None else DenseSearch(task, chosen)


def kind_of(config: RunConfig) -> SearchKind[Any]:
    """The kind of search that a configuration asks for."""
    return search_kind(config.task, config.head)
