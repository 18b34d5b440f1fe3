"""The races of a run, one for each budget, and their file: who entered, who was dropped when, who is left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mnas.errors import BadInput, Infeasible
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.clock import duration
from mnas.pipeline.contenders import contenders, ranking
from mnas.pipeline.context import Context
from mnas.pipeline.leaderboard import Race, update_leaderboard
from mnas.pipeline.race import Contender, Placing, ordered, published_first, race, rungs_of
from mnas.pipeline.references import Reference
from mnas.pipeline.trainings import SharedTrainings
from mnas.run import Run
from mnas.space.architecture import Architecture
from mnas.study.trial import Trial
from mnas.training.full import Standing
from mnas.training.recipe import steps_an_epoch

log = logging.getLogger("mnas")

LEAST_STEPS = 100
"""The first rung is not before: the averaged weights of fewer steps are those of the warm-up, and rank by chance
(benchmarks/race_ranking.py)."""
TIES_COST = 2.2
"""Contenders that cannot be told apart both train on while the race costs at most this many trainings of the slowest
reference."""


@dataclass(frozen=True)
class Outcome:
    """A race that is over."""

    budget_ms: float | None
    placings: tuple[Placing, ...]
    """Those trained to the end, best first."""
    rungs: tuple[Mapping[str, Any], ...]
    """As races.jsonl has them: the epoch, each contender's accuracy and seconds, the survivors' names."""
    entered: tuple[Contender, ...]

    @property
    def winner(self) -> Contender:
        """The best of those that were trained to the end."""
        return self.placings[0].contender

    @property
    def best_reference(self) -> Contender | None:
        """The best of the references, which may be the winner; None where none was trained to the end."""
        trained = (one.contender for one in self.placings if one.standing is not None)
        return next((one for one in trained if one.kind == "reference"), None)


def enter(
    context: Context, trials: Sequence[Trial], references: dict[float | None, list[Reference]]
) -> dict[float | None, list[Contender]]:
    """The contenders of each budget: those that an earlier process wrote down, or the ones chosen and measured now.

    A budget that no network keeps has none; Infeasible where that is so for all of them.
    """
    written = races_of(context.run)
    entered: dict[float | None, list[Contender]] = {}
    missed: Infeasible | None = None
    for budget_ms in context.config.wanted_ms:
        if budget_ms in written:
            entered[budget_ms] = list(written[budget_ms][0])
            continue
        try:
            entered[budget_ms] = contenders(context, trials, references.get(budget_ms, []), budget_ms)
        except Infeasible as error:
            missed = error
            if context.config.budgets_ms:
                log.warning("%s", error)
            continue
        record = {"budget_ms": budget_ms, "contenders": [_record(contender) for contender in entered[budget_ms]]}
        context.run.append_trial(record, context.run.races_path)
    if missed is not None and not entered:
        raise missed
    return entered


def run_races(
    context: Context, shared: SharedTrainings, entered: Mapping[float | None, Sequence[Contender]],
    left_s: Callable[[], float | None],
) -> list[Outcome]:  # fmt: skip
    """The race of each budget, ascending. `left_s` gives the seconds that are left.

    The winner of a smaller budget keeps a larger one too, and wins there if it is better than those who entered.
    """
    outcomes: list[Outcome] = []
    for budget_ms, own in entered.items():
        outcome = _run_race(context, shared, own, budget_ms, left_s)
        if outcomes:
            placings = ordered([*outcome.placings, outcomes[-1].placings[0]], ranking(context, budget_ms))
            outcome = replace(outcome, placings=tuple(placings))
        if context.run.state().estimator == "zero_cost":
            outcome = replace(outcome, placings=tuple(published_first(outcome.placings)))
        if outcome.winner.kind == "reference":
            log.info(
                "the published network %s wins: no found one is better by more than the noise of %d validation images",
                outcome.winner.name, len(context.data.val),
            )  # fmt: skip
        outcomes.append(outcome)
    return outcomes


def _run_race(
    context: Context, shared: SharedTrainings, entered: Sequence[Contender], budget_ms: float | None,
    left_s: Callable[[], float | None],
) -> Outcome:  # fmt: skip
    """The race of one budget, or what an earlier process left of it."""
    epochs, run = shared.recipe.epochs, context.run
    least = -(-LEAST_STEPS // steps_an_epoch(shared.recipe, len(context.data.train)))
    ends = (*rungs_of(epochs, least), epochs)
    rungs = list(races_of(run)[budget_ms][1])
    rank = ranking(context, budget_ms)
    names = ", ".join(f"{one.name} ({one.latency.median_ms:.2f} ms)" for one in entered)
    at = "" if budget_ms is None else f" for {budget_ms:g} ms"
    log.info(
        "race%s: %d epochs, the weaker half is dropped after %s; %s", at, epochs,
        ", ".join(map(str, ends[:-1])) or "none", names,
    )  # fmt: skip

    costs = {  # seconds of a whole training, of the references; what an earlier process knew included
        one.name: epochs * rung["seconds"][one.name] / rung["epoch"]
        for rung in rungs for one in entered if one.kind == "reference" and one.name in rung["seconds"]
    }  # fmt: skip

    def advance(contenders: Sequence[Contender], epoch: int) -> list[Standing | None]:
        standings = shared.advance(contenders, epoch)
        for one, standing in zip(contenders, standings, strict=True):
            if standing is not None and one.kind == "reference":
                costs[one.name] = epochs * standing.seconds / max(1, standing.epochs)
        return standings

    def affords(placings: Sequence[Placing], epoch: int) -> bool:
        return _affords(placings, epoch, ends, max(costs.values(), default=None), left_s())

    def dropped(epoch: int, placings: Sequence[Placing], kept: Sequence[Placing]) -> None:
        accuracies = {
            one.contender.name: None if one.standing is None else one.standing.accuracy for one in placings
        }
        survivors = [one.contender.name for one in kept]
        seconds = {one.contender.name: one.standing.seconds for one in placings if one.standing}
        record = {
            "budget_ms": budget_ms, "epoch": epoch, "accuracies": accuracies, "survivors": survivors,
            "seconds": seconds,
        }  # fmt: skip
        run.append_trial(record, run.races_path)
        update_leaderboard(context, races_of(context.run).values())
        rungs.append(record)
        shown = ", ".join(
            f"{name} {'diverged' if accuracy is None else f'{accuracy:.2%}'}"
            + " (dropped)" * (name not in survivors) for name, accuracy in accuracies.items()
        )  # fmt: skip
        left = _expected_s(kept, epoch, ends)
        log.info("race%s, after epoch %d of %d: %s; about %s left", at, epoch, epochs, shown, duration(left))
        context.board.trial(epoch, {
            f"race{at.replace(' ', '_')}/{name}": accuracy
            for name, accuracy in accuracies.items() if accuracy is not None
        })  # fmt: skip

    placings = race(entered, ends, advance, rank, affords, dropped, [rung["survivors"] for rung in rungs])
    return Outcome(budget_ms, tuple(placings), tuple(rungs), tuple(entered))


def _affords(
    placings: Sequence[Placing], epoch: int, ends: Sequence[int], training_s: float | None, left_s: float | None
) -> bool:
    """Whether the placings can train on from `epoch` without costing more than a race is meant to, or the time left.

    `training_s`: a whole training of the slowest reference; without one, that of the slowest placing.
    """
    training_s = training_s or ends[-1] * max(map(_epoch_s, placings))
    spent = sum(placing.standing.seconds for placing in placings if placing.standing)
    wanted_s = TIES_COST * training_s - spent
    if left_s is not None:
        wanted_s = min(wanted_s, left_s)
    return _expected_s(placings, epoch, ends) <= wanted_s


def _expected_s(placings: Sequence[Placing], epoch: int, ends: Sequence[int]) -> float:
    """Seconds until the end of a race in which these train on from `epoch`: two of them to the end, as a rule."""
    later = [end for end in ends if end > epoch]
    speeds, seconds, at = [_epoch_s(placing) for placing in placings], 0.0, epoch
    for rung in later:
        seconds += sum(speeds) * (rung - at)
        speeds, at = speeds[: max(2, -(-len(speeds) // 2))], rung
    return seconds


def _epoch_s(placing: Placing) -> float:
    standing = placing.standing
    return standing.seconds / standing.epochs if standing and standing.epochs else 0.0


# --- the file


def races_of(run: Run) -> dict[float | None, Race]:
    """The races in a run's races.jsonl by their budgets: who entered, and the rungs so far."""
    records = run.read_trials(run.races_path)
    return {
        record["budget_ms"]: (
            [_contender(contender) for contender in record["contenders"]],
            [rung for rung in records if rung["budget_ms"] == record["budget_ms"] and "survivors" in rung],
        )
        for record in records if "contenders" in record
    }  # fmt: skip


def _record(contender: Contender) -> dict[str, Any]:
    return {
        "name": contender.name, "architecture": contender.architecture.to_dict(), "kind": contender.kind,
        "latency": asdict(contender.latency), "weights": contender.weights, "trial": contender.trial,
    }  # fmt: skip


def _contender(record: dict[str, Any]) -> Contender:
    try:
        return Contender(**record | {
            "architecture": Architecture.from_dict(record["architecture"], record["name"]),
            "latency": Measurement(**record["latency"]),
        })  # fmt: skip
    except (TypeError, KeyError):
        raise BadInput(f"races.jsonl: {str(record)[:60]!r} is no contender; delete the file to race again") from None
