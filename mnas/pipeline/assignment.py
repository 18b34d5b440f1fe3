"""What a search tells its workers on other machines, in the attributes of the study that they share."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from optuna import Study as OptunaStudy

from mnas.config import RunConfig
from mnas.errors import BadInput
from mnas.io.size import Size
from mnas.io.strict_yaml import Strict, validate
from mnas.latency.resolve import table_copy
from mnas.nn.origin import Origin
from mnas.pipeline.context import Context, Overrides
from mnas.pipeline.plan import Plan
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.shared import SharedStudy
from mnas.study.study import Study

ASSIGNMENT, OVER = "mnas_assignment", "mnas_over"
"""The study's attributes: an assignment as JSON, and whether the search has all trials."""


class Assignment(Strict):
    """Everything that a worker needs but the images."""

    refusal: str | None = None
    """Why the search shares no trials; the rest is empty then."""
    config: dict[str, Any] = {}
    """The resolved configuration, with the recipe by which candidates are trained."""
    resolutions: tuple[Size, ...] = ()
    precision: Literal["float32", "bfloat16"] = "float32"
    division: str = ""
    """Digest of the images in each split."""
    weights: tuple[str, ...] = ()
    """Digests of the weights from which networks start."""
    tables: tuple[str, ...] = ()
    """The latency table of each target, as its file."""
    fastest: dict[str, Any] = {}
    """The fastest network within budgets and constraints."""
    slowest_ms: float = 0.0
    prune_after: int = 0

    @property
    def run_config(self) -> RunConfig:
        return validate(RunConfig, self.config, "the search's configuration in the storage")

    @property
    def fastest_network(self) -> Architecture:
        return Architecture.from_dict(self.fastest, "the search's fastest network in the storage")


def budgets_of(config: RunConfig) -> tuple[float, ...]:
    """The latency budgets in ms; none where the whole front is searched."""
    return tuple(ms for ms in config.wanted_ms if ms is not None)


def why_alone(context: Context, plan: Plan, overrides: Overrides) -> str | None:
    """Why no other machine can evaluate trials of this search; None where they can. BadInput if they are to."""
    custom = [name for name in overrides.names() if name in ("data", "latency", "sampler")]
    reason = None
    if plan.supernet is not None:
        reason = (
            "it estimates accuracies by a supernet, which torchrun shares among processes: torchrun ... -m -- mnas "
            "search; or search with --estimator train"
        )
    elif context.group.size > 1:
        reason = "torchrun's processes share its trials already"
    elif custom:
        reason = f"it was given {', '.join(custom)} as Python objects, which no storage keeps"
    elif not context.latency.quick:
        reason = "it times each candidate on its own machine: search with a latency table instead"
    if reason is not None and context.config.workers_only:
        raise BadInput(f"--workers-only: this search shares no trials: {reason}")
    return reason


def publish(study: Study, context: Context, plan: Plan, refusal: str | None) -> None:
    """Tell workers what they need, or why they are not needed."""
    shared = _assignment(study, context, plan) if refusal is None else Assignment(refusal=refusal)
    study.optuna.set_user_attr(ASSIGNMENT, shared.model_dump_json())


def _assignment(study: Study, context: Context, plan: Plan) -> Assignment:
    config, data, candidate = context.config, context.trainer.data, plan.candidate.recipe
    updates: dict[str, Any] = {"proxy": candidate, "fit": data.train.reading.fit}
    if not context.trainer.origins:
        updates |= {"pretrained": "none", "init": None}
    copies = [table_copy(context.run, index) for index in range(len(config.targets))]
    return Assignment(
        config=config.model_copy(update=updates).model_dump(mode="json"), resolutions=context.space.resolutions,
        precision=context.trainer.precision, division="" if data.division is None else data.division.digest,
        weights=digests(context.run, context.trainer.origins), tables=tuple(copy.read_text() for copy in copies),
        fastest=study.problem.fastest.to_dict(), slowest_ms=study.problem.slowest_ms,
        prune_after=candidate.epochs // 2,
    )  # fmt: skip


def digests(run: Run, origins: tuple[Origin, ...]) -> tuple[str, ...]:
    """SHA-256 of each file of weights in the run's folder from which networks start, whatever its name is."""
    beside = (".yaml", ".sha256")
    files = sorted(path for path in run.origins.glob("*/*") if path.suffix not in beside) if origins else []
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def end_workers(study: SharedStudy) -> None:
    """Tell workers that the search has all trials; nothing in the database is needed any more."""
    study.optuna.set_user_attr(OVER, True)
    study.close()


def read_assignment(study: OptunaStudy) -> Assignment | None:
    """What the search tells its workers; None where it has not yet."""
    text = study.user_attrs.get(ASSIGNMENT)
    return None if text is None else validate(Assignment, json.loads(text), "the search's assignment in the storage")


def is_over(study: OptunaStudy) -> bool:
    """Whether the search has all trials."""
    return bool(study.user_attrs.get(OVER, False))


def write_tables(assignment: Assignment, run: Run) -> list[Path]:
    """The files of the latency tables, in the run's folder."""
    paths = [table_copy(run, index) for index in range(len(assignment.tables))]
    for path, text in zip(paths, assignment.tables, strict=True):
        path.write_text(text)
    return paths
