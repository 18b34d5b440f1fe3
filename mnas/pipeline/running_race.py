"""One race of a run: its trainings, its time, its records, its log; `race` has the rule."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnas.monitor.figures import count
from mnas.pipeline.clock import duration
from mnas.pipeline.contenders import UNTRAINED, ranking
from mnas.pipeline.context import Context
from mnas.pipeline.leaderboard import update_leaderboard
from mnas.pipeline.pacing import Pacing
from mnas.pipeline.plan import most_epochs
from mnas.pipeline.race import (
    Contender,
    Placing,
    Rules,
    displaced_by,
    ordered,
    published_first,
    race,
    rungs_of,
    tied,
)
from mnas.pipeline.races_file import races_of, write_rung
from mnas.pipeline.trainings import SharedTrainings
from mnas.training.full import Standing
from mnas.training.recipe import steps_an_epoch

log = logging.getLogger("mnas")

LEAST_STEPS = 100
"""The first rung is not before: the averaged weights of fewer steps are those of the warm-up, and rank by chance
(benchmarks/race_ranking.py)."""
TIES_COST = 2.2
"""Contenders that cannot be told apart both train on while the race costs at most this many trainings of the slowest
reference."""


KEPT_FIRST = 0.75
"""The part of the contenders that trains on after an eighth of a race by time: with two thirds of the leader's epochs,
the winner of a race on 1,600 photographs was 9 points behind it there, and 5 points ahead at half."""


@dataclass(frozen=True)
class Limit:
    """The time of one race."""

    pacing: Pacing
    run_left_s: Callable[[], float | None]
    """Gives the seconds that are left for all races; None without a limit."""
    races: int = 1
    """Races that are still to be run, this one included."""

    def left_s(self) -> float | None:
        """Seconds that are left for this race and what follows it; None without a limit."""
        left_s = self.run_left_s()
        return None if left_s is None else left_s / self.races


class RunningRace:
    """The race of one budget, or what an earlier process left of it."""

    def __init__(
        self, context: Context, shared: SharedTrainings, entered: Sequence[Contender], budget_ms: float | None,
        limit: Limit,
    ):  # fmt: skip
        self.entered = tuple(entered)
        self.rungs = list(races_of(context.run)[budget_ms][1])
        """Those that are over, as races.jsonl has them."""
        self._context, self._shared, self._budget_ms, self._limit = context, shared, budget_ms, limit
        self._at = "" if budget_ms is None else f" for {budget_ms:g} ms"
        least = -(-LEAST_STEPS // steps_an_epoch(shared.recipe, len(context.data.train)))
        self._parts = rungs_of(min(one.epochs for one in entered), least)
        self._costs: dict[str, float] = {  # seconds of a whole training, of the references
            one.name: one.epochs * rung["seconds"][one.name] / rung["epochs"][one.name]
            for rung in self.rungs for one in entered if one.kind == "reference" and one.name in rung["seconds"]
        }  # fmt: skip

    def run(self) -> list[Placing]:
        """The placings of those trained to the end, best first."""
        names = ", ".join(
            f"{one.name} ({one.latency.median_ms:.2f} ms, {count(one.epochs, 'epoch')})" for one in self.entered
        )
        after = ", ".join(map(_fraction, self._parts)) or "no part"
        log.info("race%s: the weaker are dropped after %s of it; %s", self._at, after, names)
        by_time = self._is_by_time()
        # where time is short, it is worth more to the winner than a comparison
        compared = not by_time or self._context.config.seeds > 1
        rules = Rules(self._order, self.affords, compared, KEPT_FIRST if by_time else 0.5)
        done = [rung["survivors"] for rung in self.rungs]
        return race(self.entered, self._parts, self._advance, rules, self._settle, done)

    def _is_by_time(self) -> bool:
        """Whether a time budget decides how long the contenders train."""
        most = most_epochs(self._shared.recipe)
        return self._context.config.budget_s is not None and any(one.epochs < most for one in self.entered)

    def _order(self, placings: Sequence[Placing]) -> list[Placing]:
        best_first = ordered(placings, ranking(self._context, self._budget_ms))
        scored = self._context.run.state().estimator in UNTRAINED
        return published_first(best_first) if scored else best_first

    def _advance(self, contenders: Sequence[Contender], part: float) -> list[Standing | None]:
        standings = self._shared.advance(contenders, part)
        for one, standing in zip(contenders, standings, strict=True):
            if standing is not None and one.kind == "reference":
                self._costs[one.name] = _whole_s(Placing(one, standing))
        return standings

    def affords(self, placings: Sequence[Placing], rung: float) -> bool:
        """Whether these can train on without costing more than a race is meant to, or the time left."""
        training_s = max(self._costs.values(), default=None) or max(map(_whole_s, placings))
        spent_s = sum(placing.standing.seconds for placing in placings if placing.standing)
        wanted_s, left_s = TIES_COST * training_s - spent_s, self._limit.left_s()
        if left_s is not None:
            wanted_s = min(wanted_s, left_s)
        return self._expected_s(placings, rung) <= wanted_s

    def _expected_s(self, placings: Sequence[Placing], rung: float) -> float:
        """Seconds until the end if these train on from `rung`: two of them to the end, as a rule."""
        seconds, whole_s = 0.0, [_whole_s(placing) for placing in placings]
        for until in [*(part for part in self._parts if part > rung), 1.0]:
            seconds += sum(whole_s) * (until - rung)
            whole_s, rung = whole_s[: max(2, -(-len(whole_s) // 2))], until
        return seconds

    def _settle(self, rung: float, placings: Sequence[Placing], kept: Sequence[Placing]) -> Mapping[str, int]:
        """Write a rung down; the last ones get the time that is left."""
        context = self._context
        survivors = {one.contender.name: one.contender.epochs for one in kept}
        left_s = self._limit.left_s()
        if left_s is not None and (rung == self._parts[-1] or len(kept) == 1):
            seeds = context.config.seeds
            others = len(context.config.baselines) * seeds + (seeds - 1) * len(kept)
            survivors |= self._limit.pacing.prolonged(kept, left_s, others=others, processes=context.group.size)
        self.rungs.append(write_rung(context.run, self._budget_ms, rung, placings, survivors))
        update_leaderboard(context, races_of(context.run).values())
        self._show(rung, placings, kept, survivors)
        return survivors

    def _show(
        self, rung: float, placings: Sequence[Placing], kept: Sequence[Placing], survivors: Mapping[str, int]
    ) -> None:
        going_on = [
            replace(one, contender=replace(one.contender, epochs=survivors[one.contender.name])) for one in kept
        ]
        left = duration(self._expected_s(going_on, rung))
        shown = ", ".join(_in_words(one) + _dropped(one, kept) for one in placings)
        log.info("race%s, after %s: %s; about %s left", self._at, _fraction(rung), shown, left)
        for before, after in zip(kept, going_on, strict=True):
            if before != after:
                log.info(
                    "%s trains for %s, as the time left allows", after.contender.name,
                    count(after.contender.epochs, "epoch"),
                )
        group = f"race{self._at.replace(' ', '_')}"
        figures: dict[str, Any] = {
            f"{group}/{one.contender.name}": one.standing.accuracy for one in placings if one.standing
        }
        self._context.board.trial(round(100 * rung), figures)


def _whole_s(placing: Placing) -> float:
    """Seconds of the contender's whole training, as far as it is known."""
    standing = placing.standing
    return placing.contender.epochs * standing.seconds / standing.epochs if standing and standing.epochs else 0.0


def _fraction(part: float) -> str:
    return f"1/{round(1 / part)}"


def _dropped(placing: Placing, kept: Sequence[Placing]) -> str:
    """What is said of one that does not train on, and why where one that did worse does."""
    if placing in kept:
        return ""
    other = displaced_by(placing, kept)
    if other is None:
        return " (dropped)"
    name, published = other.contender.name, other.contender.kind == "reference" != placing.contender.kind
    if tied(other, placing):
        return f" (dropped: not told apart from {name}, which is {'published' if published else 'faster'})"
    return f" (dropped: {name} trains on to compare with)"


def _in_words(placing: Placing) -> str:
    standing = placing.standing
    return f"{placing.contender.name} {'diverged' if standing is None else f'{standing.accuracy:.2%}'}"
