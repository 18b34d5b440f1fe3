"""Contenders train for about the same time, and the last ones for all that is left."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers import trainer

import mnas
from mnas.config import Recipe
from mnas.data.sources import load_data
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.pacing import CERTAIN, Pacing
from mnas.pipeline.plan import epoch_s
from mnas.pipeline.race import Contender, Placing
from mnas.training.full import Standing

DATA = load_data("digits")
MOST = 100
RECIPE = Recipe(batch_size=16, max_epochs=MOST)
PACING = Pacing(trainer(DATA), RECIPE, 400.0)


def contender(name: str, resolution: int = 32, width: float = 0.35, epochs: int = 0) -> Contender:
    arch = mnas.zoo.get("mobilenet_v3_small", width, resolution)
    return Contender(name, arch, "reference", Measurement(1.0, 0.1, 30), epochs=epochs)


def placing(name: str, epochs: int, done: int, seconds: float) -> Placing:
    return Placing(contender(name, epochs=epochs), Standing(done, np.ones(9, bool), seconds))


def test_who_trains_slowly_gets_fewer_epochs() -> None:
    small, large = contender("small"), contender("large", 96, 1.0)
    quick, slow = PACING.paced([small, large], 20 * epoch_s(DATA, RECIPE, 400.0))
    assert (replace(quick, epochs=0), replace(slow, epochs=0)) == (small, large)
    assert 1 <= slow.epochs < quick.epochs <= MOST


def test_without_a_limit_all_train_by_the_recipe() -> None:
    assert [one.epochs for one in PACING.paced([contender("a"), contender("b", 96)], None)] == [RECIPE.epochs] * 2


def test_where_there_is_time_enough_all_train_longest() -> None:
    enough = CERTAIN * MOST * epoch_s(DATA, RECIPE, 400.0)
    assert [one.epochs for one in PACING.paced([contender("a"), contender("b", 96)], enough)] == [MOST] * 2


@given(
    done=st.lists(st.integers(1, 20), min_size=1, max_size=3), speeds=st.lists(st.floats(0.1, 5), min_size=3),
    left_s=st.floats(0, 1000), others=st.integers(0, 6), processes=st.integers(1, 3),
)  # fmt: skip
def test_what_is_left_is_shared(
    done: list[int], speeds: list[float], left_s: float, others: int, processes: int
) -> None:
    placings = [placing(str(i), 40, epochs, epochs * speeds[i]) for i, epochs in enumerate(done)]
    epochs = PACING.prolonged(placings, left_s, others=others, processes=processes)
    assert list(epochs) == [str(i) for i in range(len(done))]
    for i, reached in enumerate(done):
        least = math.ceil((40 + reached) / 2)
        assert least <= epochs[str(i)] <= MOST, "never cut short by more than half of what it lacks"
        if epochs[str(i)] > least:
            turns = math.ceil(len(done) / processes)
            cost_s = turns * (epochs[str(i)] - reached) * speeds[i] + others * epochs[str(i)] * speeds[i]
            assert cost_s <= left_s + 1e-6


@pytest.mark.parametrize(("left_s", "others", "expected"), [
    (30.0, 0, 40), (70.0, 0, 80), (900.0, 0, MOST), (10.0, 0, 25), (0.0, 0, 25), (170.0, 2, 60),
])  # fmt: skip
def test_the_last_one_trains_for_all_that_is_left(left_s: float, others: int, expected: int) -> None:
    """10 of 40 epochs took 10 s."""
    assert PACING.prolonged([placing("last", 40, 10, 10.0)], left_s, others=others) == {"last": expected}


def test_two_share_what_is_left() -> None:
    two = [placing("quick", 40, 20, 10.0), placing("slow", 20, 10, 10.0)]
    assert PACING.prolonged(two, 30.0) == {"quick": 50, "slow": 25}
    assert PACING.prolonged(two, 30.0, processes=2) == {"quick": 80, "slow": 40}
