"""A time budget is divided so that it is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnas.config import Recipe, RunConfig
from mnas.data.sources import ImageData
from mnas.data.splits import ArraySplit
from mnas.plan import duration, epoch_s, final_recipe, make_plan

PROXY, RECIPE = RunConfig.model_fields["proxy"].default, Recipe()


def data(train: int, val: int = 1000) -> ImageData:
    def split(count: int) -> ArraySplit:
        return ArraySplit(np.zeros((count, 2, 2), np.uint8), np.arange(count) % 10)

    return ImageData("d", tuple("0123456789"), 2, True, split(train), split(val), split(val))


@given(
    train=st.integers(200, 60_000), left_s=st.floats(60, 36_000), speed=st.floats(20, 20_000),
    trials=st.one_of(st.none(), st.integers(1, 500)), networks=st.integers(2, 5),
)  # fmt: skip
def test_the_parts_fit_into_the_whole(
    train: int, left_s: float, speed: float, trials: int | None, networks: int
) -> None:
    images = data(train)
    plan = make_plan(images, PROXY, RECIPE, trials=trials, left_s=left_s, networks=networks, images_per_s=speed)
    assert plan.search_s is not None
    assert plan.search_s + plan.final_s <= left_s + 1e-6
    assert 1 <= plan.proxy.epochs <= PROXY.epochs
    assert plan.expected_s() <= left_s + 21
    recipe = final_recipe(RECIPE, images, left_s=left_s, networks=networks, images_per_s=speed)
    assert recipe.epochs == 1 or networks * recipe.epochs * epoch_s(images, recipe, speed) <= left_s


def test_without_a_limit_nothing_is_cut() -> None:
    plan = make_plan(data(50_000), PROXY, RECIPE, trials=10, left_s=None, networks=2, images_per_s=100)
    assert plan.proxy == PROXY
    assert plan.search_s is None
    assert final_recipe(RECIPE, data(50_000), left_s=None, networks=2, images_per_s=100) == RECIPE


def test_short_time_cuts_images_first() -> None:
    plan = make_plan(data(50_000), PROXY, RECIPE, trials=None, left_s=600, networks=2, images_per_s=1000)
    assert plan.proxy.epochs == PROXY.epochs
    assert plan.proxy.images is not None
    assert plan.proxy.images < 10_000
    assert plan.search_s is not None
    assert plan.search_s / plan.candidate_s >= 14, "time for a search that deserves its name"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (100, "2 min"), (3600, "60 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
