"""Candidates that fail one after another: the search stops, since the next ones would fail as well."""

from __future__ import annotations

from mnas.errors import MnasError
from mnas.study.trial import Trial

FAILURES = 5
"""Estimates that fail in a row, after which a search stops."""


class Failures:
    """Counts the estimates that failed in a row, in one process: a resumed search tries again."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, trial: Trial) -> None:
        """Count a finished trial. Raises MnasError with the last one's cause where FAILURES in a row have failed."""
        if not trial.evaluated:
            return
        self._count = self._count + 1 if trial.state == "failed" else 0
        if self._count == FAILURES:
            raise MnasError(
                f"the search was stopped, since the last {FAILURES} candidates failed; the last one: "
                f"{trial.evaluation.error}"
            )
