"""races.jsonl of a run: who entered each race, and the rungs so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mnas.errors import BadInput
from mnas.io.jsonl import read_records
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.leaderboard import Race
from mnas.pipeline.race import Contender, Placing
from mnas.run import Run
from mnas.space.architecture import Architecture


def races_of(run: Run) -> dict[float | None, Race]:
    """The races of a run by their budgets: who entered, and the rungs so far."""
    records = read_records(run.races_path, independent=False)
    return {
        record["budget_ms"]: (
            [_contender(contender) for contender in record["contenders"]],
            [rung for rung in records if rung["budget_ms"] == record["budget_ms"] and "survivors" in rung],
        )
        for record in records if "contenders" in record
    }  # fmt: skip


def write_entered(run: Run, budget_ms: float | None, contenders: Sequence[Contender]) -> None:
    """Write down who entered a race."""
    record = {"budget_ms": budget_ms, "contenders": [_record(contender) for contender in contenders]}
    run.append_trial(record, run.races_path)


def write_rung(
    run: Run, budget_ms: float | None, rung: float, placings: Sequence[Placing], survivors: Mapping[str, int]
) -> dict[str, Any]:
    """Write down a rung, and return its record; `survivors` by name, with the epochs of their whole trainings."""
    record = {
        "budget_ms": budget_ms, "part": rung, "survivors": dict(survivors),
        "epochs": {one.contender.name: one.contender.epochs_at(rung) for one in placings},
        "accuracies": {one.contender.name: one.standing.accuracy if one.standing else None for one in placings},
        "seconds": {one.contender.name: one.standing.seconds for one in placings if one.standing},
    }  # fmt: skip
    run.append_trial(record, run.races_path)
    return record


def _record(contender: Contender) -> dict[str, Any]:
    return {
        "name": contender.name, "architecture": contender.architecture.to_dict(), "kind": contender.kind,
        "latency": asdict(contender.latency), "weights": contender.weights, "trial": contender.trial,
        "epochs": contender.epochs,
    }  # fmt: skip


def _contender(record: dict[str, Any]) -> Contender:
    try:
        return Contender(**record | {
            "architecture": Architecture.from_dict(record["architecture"], record["name"]), "epochs": record["epochs"],
            "latency": Measurement(**record["latency"]),
        })  # fmt: skip
    except (TypeError, KeyError):
        raise BadInput(f"races.jsonl: {str(record)[:60]!r} is no contender; delete the file to race again") from None
