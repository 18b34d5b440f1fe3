"""Kills of a search at random moments, each followed by a resume: what was lost, and whether all is right in the end.

A round is one kill and what the next process makes of it. A search is killed until no phase is left.
"""

from __future__ import annotations

import math
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checks import after_kill, after_resume, at_the_end
from .processes import Ended, Zygote
from .searches import PHASES, Search, finished, made_up_table, prepare

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MEASURED = ("decode images", "latency table", "calibration")
"""Phases in which a search that measures its table is killed; the others are those of one with a given table."""
AHEAD = 1
"""By how many kills one phase may be ahead of another."""
AGAIN = 0.3
"""How often a search is killed twice in one phase."""


@dataclass
class Round:
    """One kill and its consequences."""

    phase: str
    signal: signal.Signals
    after_s: float
    """Seconds since the phase began."""
    ended: Ended
    lost: dict[str, float] = field(default_factory=dict)
    """What had to be done again: training steps, table rows, trials."""
    trials: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, Any] = field(default_factory=dict)
    """The finished trials and the table's rows that were on disk at the kill."""
    wrong: list[str] = field(default_factory=list)
    """What should not have happened."""

    def __str__(self) -> str:
        lost = ", ".join(f"{number:g} {what}" for what, number in self.lost.items() if number) or "nothing"
        result = "; ".join(self.wrong) or "ok"
        return (
            f"{self.signal.name:<7} in {self.phase:<13} after {self.after_s:5.2f} s: code {self.ended.code:>3}, "
            f"gone in {self.ended.gone_s:4.2f} s, lost {lost}: {result}"
        )


class Killer:
    """Kills searches in a folder, each phase as often as the others."""

    def __init__(self, folder: Path, zygote: Zygote, seed: int):
        self.folder, self._zygote, self._rng = folder, zygote, random.Random(seed)
        self._killed = Counter[str]()
        prepare(zygote.folder)
        measuring = Search(folder / "measured")
        took = finished(zygote, measuring).began
        self._table = made_up_table(folder / "table.yaml")
        self._unbroken = Search(folder / "unbroken", self._table)
        ended = finished(zygote, self._unbroken)
        self._took = [*took.items(), *ended.began.items()]
        for phase in PHASES:  # one that never comes would be waited for without end
            assert any(title.startswith(phase) for title, _ in self._took), f"no search was in the phase {phase}"

    def rounds(self, count: int) -> Iterator[Round]:
        """The rounds, each as soon as its search was resumed."""
        number = 0
        while count > 0:
            number += 1
            measures = self._rarest(PHASES) in MEASURED
            search = Search(self.folder / f"killed{number}", None if measures else self._table)
            for one in self._until_done(search, MEASURED if measures else PHASES, count):
                count -= 1
                yield one
            shutil.rmtree(search.folder)

    def _until_done(self, search: Search, phases: tuple[str, ...], most: int) -> Iterator[Round]:
        """Kill a search in some of its phases, in their order, then let it end."""
        left = [phase for phase in phases if search.table is None or phase not in MEASURED[1:]]
        last: Round | None = None
        done = False
        while not done:
            aim = self._rarest(left) if most else None
            one = self._kill(search, aim)
            done = one.ended.code == 0
            if last is not None:
                after_resume(search, last, one.ended)
                if done:
                    at_the_end(search, last, self._unbroken)
                yield last
            last = None if done else one
            if aim is not None and not done:
                most -= 1
                again = self._rng.random() < AGAIN
                left = left[left.index(aim) + (not again) :]
                self._killed[aim] += 1
                after_kill(search, one)
            else:
                left = []

    def _kill(self, search: Search, phase: str | None) -> Round:
        """Run the search's next process, and kill it in that phase; without one, or too late, it ends by itself."""
        number, delay = self._rng.choice(SIGNALS), self._rng.uniform(0, self._duration(phase))

        def watch(text: str, seconds: float) -> list[signal.Signals]:
            began = next((at for title, at in seen.items() if phase and title.startswith(phase)), None)
            if began is None and phase is not None and f"#step {phase}" in text:
                seen[phase] = began = seconds
            return [number] if began is not None and seconds - began >= delay else []

        seen: dict[str, float] = {}
        ended = self._zygote.run(search.command(), search.cache, watch)
        return Round(phase or "", number, delay, ended)

    def _rarest(self, phases: Sequence[str]) -> str | None:
        """The phase of these that has been killed in least; None where each is far ahead of the others."""
        least = min((self._killed[phase] for phase in phases), default=math.inf)
        if least > min(self._killed[phase] for phase in PHASES) + AHEAD:
            return None
        return self._rng.choice([phase for phase in phases if self._killed[phase] == least])

    def _duration(self, phase: str | None) -> float:
        """Seconds that the phase took in an unbroken search, at least a tenth."""
        begins = [at for title, at in self._took if phase and title.startswith(phase)]
        if not begins:
            return 0.1
        later = [at for title, at in self._took if at > begins[-1] and not (phase and title.startswith(phase))]
        return max(0.1, min(later, default=begins[-1]) - begins[-1])
