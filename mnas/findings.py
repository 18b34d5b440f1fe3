"""What a search found beside its winners: the front, what decided the accuracy, how far chance would have come."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mnas.config import RunConfig
from mnas.importance import importance
from mnas.objective import front, is_pareto, knee
from mnas.random_search import compared
from mnas.space import SearchSpace
from mnas.trial import Trial

log = logging.getLogger("mnas")

SHOWN = 5
"""Choices that the log names."""


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """Finished trials that no other beats in accuracy and latency, from fast to slow."""
    complete = {(t.accuracy or 0.0, t.latency_ms): t for t in reversed(trials) if t.state == "complete"}
    return [complete[point] for point in front(complete)]


def front_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The front as metrics.json holds it, its knee marked."""
    best = front_of(trials)
    points = [(trial.accuracy or 0.0, trial.latency_ms) for trial in best]
    return [
        {"trial": trial.number, "accuracy": point[0], "latency_ms": point[1], "knee": point == knee(points)}
        for trial, point in zip(best, points, strict=True)
    ]


class Findings:
    """Of a search's trials, and of the random ones that it is compared with; the log tells them as they are found."""

    def __init__(self, config: RunConfig, space: SearchSpace, trials: Sequence[Trial], drawn: Sequence[Trial]):
        self._each: dict[str, Any] = {"importance": importance(space, trials, config.seed)}
        if is_pareto(config.objective):
            self._each["front"] = front_rows(trials)
        budgets = config.wanted_ms if config.compare_random else ()
        self._random = {budget_ms: compared(trials, drawn, budget_ms) for budget_ms in budgets}
        self._log()

    def of(self, budget_ms: float | None) -> dict[str, Any]:
        """What metrics.json says in the folder of this budget's winner."""
        random = {"random": self._random[budget_ms]} if self._random else {}
        return self._each | random

    def _log(self) -> None:
        for row in self._each.get("front", []):
            log.info(
                "front: trial %d, %.2f%%, %.2f ms%s", row["trial"], 100 * row["accuracy"], row["latency_ms"],
                " (knee)" * row["knee"],
            )  # fmt: skip
        shares = list(self._each["importance"].items())[:SHOWN]
        if shares:
            log.info("what decided the accuracy: %s", ", ".join(f"{name} {share:.0%}" for name, share in shares))
        for budget_ms, found in self._random.items():
            reached = [found[f"{prefix}best_accuracy"] for prefix in ("search_", "")]
            log.info(
                "best%s after %d evaluations: %s by the search, %s at random%s",
                "" if budget_ms is None else f" within {budget_ms:g} ms", found["trials"], *map(_percent, reached),
                "; this search was no better than chance" if (reached[0] or 0) <= (reached[1] or 0) else "",
            )  # fmt: skip


def _percent(part: float | None) -> str:
    return "none" if part is None else f"{part:.2%}"
