"""The races of a run, one for each budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnas.errors import Infeasible
from mnas.pipeline.contenders import UNTRAINED, contenders, ranking
from mnas.pipeline.context import Context
from mnas.pipeline.pacing import Pacing
from mnas.pipeline.race import Contender, Placing, ordered, published_first
from mnas.pipeline.races_file import races_of, write_entered
from mnas.pipeline.references import Reference
from mnas.pipeline.running_race import Limit, RunningRace
from mnas.pipeline.trainings import SharedTrainings
from mnas.study.trial import Trial

log = logging.getLogger("mnas")


@dataclass(frozen=True)
class Outcome:
    """A race that is over."""

    budget_ms: float | None
    placings: tuple[Placing, ...]
    """Those trained to the end, best first."""
    rungs: tuple[Mapping[str, Any], ...]
    """As races.jsonl has them: the part of the trainings, each contender's epochs, accuracy and seconds, the survivors
    with the epochs of their whole trainings."""
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

    @property
    def furthest_reference(self) -> str | None:
        """The name of the best reference at the last rung that one reached; None where none did."""
        references = {one.name for one in self.entered if one.kind == "reference"}
        for rung in reversed(self.rungs):
            reached = {name: share for name, share in rung["accuracies"].items() if name in references and share}
            if reached:
                return max(reached, key=lambda name: reached[name])
        return None


def enter(
    context: Context, trials: Sequence[Trial], references: dict[float | None, list[Reference]],
    paced: Callable[[Sequence[Contender]], Sequence[Contender]],
) -> dict[float | None, list[Contender]]:  # fmt: skip
    """The contenders of each budget: those that an earlier process wrote down, or the ones chosen and measured now.

    `paced` decides how long each of them trains. A budget that no network keeps has none; Infeasible where that is so
    for all of them.
    """
    written = races_of(context.run)
    entered: dict[float | None, list[Contender]] = {}
    missed: Infeasible | None = None
    for budget_ms in context.config.wanted_ms:
        if budget_ms in written:
            entered[budget_ms] = list(written[budget_ms][0])
            continue
        try:
            chosen = contenders(context, trials, references.get(budget_ms, []), budget_ms)
        except Infeasible as error:
            missed = error
            if context.config.budgets_ms:
                log.warning("%s", error)
            continue
        entered[budget_ms] = list(paced(chosen))
        write_entered(context.run, budget_ms, entered[budget_ms])
    if missed is not None and not entered:
        raise missed
    return entered


def run_races(
    context: Context, shared: SharedTrainings, entered: Mapping[float | None, Sequence[Contender]], pacing: Pacing,
    left_s: Callable[[], float | None],
) -> list[Outcome]:  # fmt: skip
    """The race of each budget, ascending. `left_s` gives the seconds that are left.

    The winner of a smaller budget keeps a larger one too, and wins there if it is better than those who entered.
    """
    outcomes: list[Outcome] = []
    for budget_ms, own in entered.items():
        limit = Limit(pacing, left_s, len(entered) - len(outcomes))
        running = RunningRace(context, shared, own, budget_ms, limit)
        placings = running.run()
        if outcomes:
            placings = ordered([*placings, outcomes[-1].placings[0]], ranking(context, budget_ms))
            if context.run.state().estimator in UNTRAINED:
                placings = published_first(placings)
        outcomes.append(Outcome(budget_ms, tuple(placings), tuple(running.rungs), running.entered))
        _log_winner(outcomes[-1], len(context.data.val))
    return outcomes


def _log_winner(outcome: Outcome, val_images: int) -> None:
    furthest = outcome.furthest_reference
    if outcome.winner.kind == "reference":
        log.info(
            "the published network %s wins: no found one is better by more than the noise of %d validation images",
            outcome.winner.name, val_images,
        )  # fmt: skip
    elif outcome.best_reference is None and furthest is not None:
        log.info(
            "the published networks were dropped on the way, so that the winner got their time: --baseline %s trains "
            "the best of them for as long, to compare with", furthest,
        )  # fmt: skip
