"""Latency evidence: predicted beside measured networks, and each layer's share by the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.errors import BadInput
from mnas.latency.model import PREDICTED
from mnas.latency.table.table import LatencyTable, load_table
from mnas.report.facts import Facts
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.space.dense import Outputs


@dataclass(frozen=True)
class Compared:
    """A network's latency on one device, predicted by its table and measured as a whole."""

    name: str
    predicted_ms: float
    measured_ms: float
    spread_ms: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted_ms / self.measured_ms - 1


def tables(run: Run, targets: int) -> list[LatencyTable | None]:
    """The run's own copy of each target's table; None where there is none, or it cannot be read."""
    paths = [run.table_path, *(run.table_path.with_stem(f"{run.table_path.stem}_{i}") for i in range(2, targets + 1))]
    return [_loaded(path) for path in paths]


def _loaded(path: Path) -> LatencyTable | None:
    try:
        return load_table(path) if path.exists() else None
    except BadInput:
        return None


def layer_shares(table: LatencyTable | None, arch: Architecture, outputs: Outputs) -> list[float] | None:
    """Each layer's part (0..1) of the sum over a network's layers; None where the table lacks one."""
    if table is None:
        return None
    try:
        times = table.layer_times(arch, outputs)
    except BadInput:
        return None
    return [ms / sum(times) for ms in times]


def compared(facts: Facts, table: LatencyTable | None, outputs: Outputs) -> list[Compared]:
    """The networks that were measured as a whole on the only device, and that its table or the search predicted."""
    if len(facts.config.targets) > 1:
        return []
    trials = {trial.number: trial.latency_ms for trial in facts.searched.trials}
    rows: dict[str, Compared] = {}
    for race in facts.races:
        for one in race.contenders:
            latency, predicted = one["latency"], _predicted(one, table, outputs, trials)
            if predicted is not None and latency["rounds"] != PREDICTED and latency["median_ms"] > 0:
                rows.setdefault(one["name"], Compared(
                    one["name"], predicted, latency["median_ms"], latency["spread_ms"]
                ))  # fmt: skip
    return list(rows.values())


def _predicted(
    contender: Mapping[str, Any], table: LatencyTable | None, outputs: Outputs, trials: Mapping[int, float]
) -> float | None:
    """Milliseconds by the table, or as the search predicted them of a trial."""
    if table is not None:
        try:
            return table.predict(Architecture.from_dict(contender["architecture"], contender["name"]), outputs)
        except BadInput:
            return None
    return trials.get(contender["trial"])
