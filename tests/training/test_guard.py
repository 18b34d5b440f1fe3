"""The guard's judgement, and trainings that break: taken back, slowed down, given up."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from trainers import trainer

from mnas.config import SupernetRecipe
from mnas.data.sources import load_data
from mnas.nn.supernet import Supernet
from mnas.space.space import SearchSpace, load_space
from mnas.training import supernet as supernet_training
from mnas.training.guard import STRIKES, Guard
from mnas.training.loop import Diverged
from mnas.training.recipe import lr_at
from mnas.training.supernet import SupernetTraining

CPU = torch.device("cpu")
DIGITS = load_data("digits")
FEW = DIGITS.train.subset(np.arange(96))
INTERVAL = 2
RECIPE = SupernetRecipe(epochs=1, batch_size=16, lr=0.1, subnets=1)
LOSSES = st.floats(0, 1000)


# --- the judgement


@pytest.mark.parametrize("loss", [math.nan, math.inf, 6.1, 1e30])
def test_a_first_loss_may_be_high_but_not_absurd(loss: float) -> None:
    guard = Guard(guessing=2.0)
    assert guard.holds(6.0)
    assert not guard.holds(loss) and not Guard(guessing=2.0).holds(loss)
    assert (guard.lowest, guard.strikes) == (6.0, 1)


def test_half_of_what_was_learned_may_be_forgotten() -> None:
    guard = Guard(guessing=2.0)
    assert [guard.holds(loss) for loss in (1.0, 1.5, 1.51, 1.2)] == [True, True, False, True]
    assert guard.lowest == 1.0
    assert guard.holds(0.6) and not guard.holds(1.31)


def test_before_much_is_learned_the_loss_may_go_up_and_down() -> None:
    guard = Guard(guessing=2.0)
    assert all(guard.holds(loss) for loss in (1.85, 2.3, 1.81, 3.0))


@given(st.lists(LOSSES), LOSSES, LOSSES)
def test_a_lower_loss_is_never_worse(before: list[float], one: float, other: float) -> None:
    guard, twin = Guard(2.0), Guard(2.0)
    for loss in before:
        assert guard.holds(loss) == twin.holds(loss)
    high, low = guard.holds(max(one, other)), twin.holds(min(one, other))
    assert low or not high


def test_each_strike_halves_the_rate_until_it_gives_up() -> None:
    guard, factors = Guard(2.0), []
    while not guard.gives_up:
        factors.append(guard.lr_factor)
        guard.holds(math.nan)
    assert factors == [1, 0.5, 0.25, 0.125] and len(factors) == STRIKES + 1


def test_it_can_be_written_down() -> None:
    guard = Guard(2.0)
    guard.holds(1.0)
    guard.holds(math.nan)
    assert Guard(**guard.to_dict()) == guard == Guard(2.0, lowest=1.0, strikes=1)


# --- in a training of 6 steps


class Breaking(SupernetTraining):
    """Whose classifier becomes noise after some of its steps, each as often as it is named."""

    breaks: list[int]
    noise: float

    def _train_step(self, raw: Tensor, labels: Tensor) -> Tensor:
        losses = super()._train_step(raw, labels)
        if self.step in self.breaks:
            self.breaks.remove(self.step)
            nn.init.normal_(self.supernet.get_parameter("head.3.linear.weight"), std=self.noise)
        return losses


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet_training, "INTERVAL", INTERVAL)


@pytest.fixture
def space(tiny: Path) -> SearchSpace:
    return load_space(tiny)


def training(
    space: SearchSpace, breaks: Sequence[int] = (), noise: float = math.inf, recipe: SupernetRecipe = RECIPE,
    checkpoint: Path | None = None,
) -> Breaking:  # fmt: skip
    torch.manual_seed(0)
    made = Breaking(
        Supernet(space, 10), recipe, trainer(DIGITS, 8, train=FEW), checkpoint=checkpoint
    )
    made.breaks, made.noise = list(breaks), noise
    return made


def saved_at(space: SearchSpace, step: int, path: Path) -> Any:
    """The checkpoint of an unbroken training after a step."""
    whole = training(space, checkpoint=path)
    list(itertools.islice(whole.run(), step // INTERVAL))
    whole.save()
    return torch.load(path)


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict | list):
        assert len(one) == len(other)
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_equal(one[key], other[key])


# an interval is trusted once the next one began well: a break in its last step shows nowhere else
@pytest.mark.parametrize(
    ("breaks_after", "steps"),
    [(1, [0, 2, 4, 6]), (3, [2, 0, 2, 4, 6]), (4, [2, 4, 2, 4, 6])],
)
def test_a_break_is_taken_back_to_before_it(
    space: SearchSpace, tmp_path: Path, caplog: pytest.LogCaptureFixture, breaks_after: int, steps: list[int]
) -> None:
    checkpoint = tmp_path / "supernet.pt"
    broken = training(space, [breaks_after], checkpoint=checkpoint)
    with caplog.at_level(logging.WARNING, "mnas"):
        seen, taken_back = [], 0
        for interval in broken.run():
            seen.append(interval)
            if interval.collapsed:
                taken_back = interval.step
                found, good = torch.load(checkpoint), saved_at(space, taken_back, tmp_path / "good.pt")
                for part in ("weights", "average", "optimizer"):
                    good["optimizer"]["param_groups"] = found["optimizer"]["param_groups"]  # only the rate is in there
                    assert_equal(found[part], good[part])
                assert found["guard"]["strikes"] == 1
    assert [interval.step for interval in seen] == steps
    assert [interval.collapsed for interval in seen if interval.collapsed] == ["the loss is not finite"]
    slowed = [bool(interval.collapsed) for interval in seen].index(True)
    for i, interval in enumerate(seen):
        assert interval.lr == lr_at(min(1.0, (interval.step + 1) / 6), RECIPE) * (0.5 if i >= slowed else 1)
    noticed = (seen[slowed - 1].step if slowed else 0) + INTERVAL
    assert [record.getMessage() for record in caplog.records] == [
        f"supernet: collapsed at step {noticed} (the loss is not finite); back to step {taken_back} "
        "with 0.5 times the learning rate"
    ]
    assert all(tensor.isfinite().all() for tensor in broken.supernet.state_dict().values())


def test_a_collapse_in_numbers_is_one_as_well(space: SearchSpace) -> None:
    seen = list(training(space, [5], noise=1000.0).run())
    assert [interval.step for interval in seen] == [2, 4, 2, 4, 6]
    assert seen[2].collapsed == f"its loss rose to {seen[2].losses['largest']:.3g}"
    assert seen[2].losses["largest"] > 100 > 3 > seen[3].losses["largest"]


def test_it_gives_up(space: SearchSpace) -> None:
    seen = []
    with pytest.raises(Diverged, match=r" 4 times, last at step 2 .* below 0\.1 .*supernet\.lr"):
        for interval in training(space, 10 * [1]).run():
            seen.append(interval)
    assert [interval.step for interval in seen] == [0, 0, 0]
    assert [interval.lr / seen[0].lr for interval in seen] == [1, 0.5, 0.25]


@pytest.mark.parametrize("lr", [1e3, 1e6])
def test_a_rate_that_is_far_too_high(space: SearchSpace, lr: float) -> None:
    with pytest.raises(Diverged, match=r"--set supernet\.lr="):
        list(training(space, recipe=RECIPE.model_copy(update={"lr": lr})).run())


def test_a_strike_outlives_a_kill(space: SearchSpace, tmp_path: Path) -> None:
    unkilled = training(space, [5])
    expected = list(unkilled.run())
    killed = training(space, [5], checkpoint=tmp_path / "supernet.pt")
    assert next(interval for interval in killed.run() if interval.collapsed).step == 2
    resumed = training(space, checkpoint=tmp_path / "supernet.pt")
    seen = list(resumed.run())
    assert [(i.step, i.losses, i.lr) for i in seen] == [(i.step, i.losses, i.lr) for i in expected[3:]]
    assert_equal(resumed.supernet.state_dict(), unkilled.supernet.state_dict())
