"""The size of the next batch, and how much of a search is over."""

import time

import pytest

from mnas.study.schedule import Schedule


@pytest.mark.parametrize(("schedule", "evaluated", "batch"), [
    (Schedule(), 1000, 1), (Schedule(10, at_once=4), 0, 4), (Schedule(10, at_once=4), 8, 2),
    (Schedule(10, at_once=4), 10, 0), (Schedule(10, at_once=4), 11, 0), (Schedule(10, deadline=0.0), 0, 0),
    (Schedule(deadline=1e12, at_once=3), 50, 3),
])  # fmt: skip
def test_batches(schedule: Schedule, evaluated: int, batch: int) -> None:
    assert schedule.batch(evaluated) == batch


def test_fraction_by_evaluations_or_time() -> None:
    now = time.monotonic()
    assert Schedule(10).fraction(4, now) == 0.4
    assert Schedule().fraction(4, now) == 0
    assert Schedule(deadline=now + 100).fraction(4, now - 100) == pytest.approx(0.5, abs=0.01)
    assert Schedule(10, deadline=now + 100).fraction(9, now - 100) == 0.9
    assert Schedule(10, deadline=now - 1).fraction(0, now - 1) == 1
