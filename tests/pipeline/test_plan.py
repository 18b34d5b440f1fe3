"""A time budget is divided so that it is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnas.config import Recipe, RunConfig, SupernetRecipe, Target, load_objective
from mnas.data.sources import ImageData
from mnas.data.splits import ArraySplit
from mnas.pipeline.clock import duration
from mnas.pipeline.plan import (
    EXPORT_S,
    FINETUNED_CANDIDATES,
    MAX_EPOCHS_FACTOR,
    RACE_COST,
    RACE_FRACTION,
    SEARCH_COST,
    SUPERNET_FRACTION,
    UNTRAINED_TRIALS,
    Plan,
    Speeds,
    Workload,
    affordable_epochs,
    epoch_s,
    make_plan,
    make_supernet_plan,
    most_epochs,
    partial_epochs,
    trainings_of,
)
from mnas.pipeline.plan_log import in_words
from mnas.run import RunState
from mnas.training.recipe import prolonged

PROXY, RECIPE = RunConfig.model_fields["proxy"].default, Recipe()


def config(**changes: Any) -> RunConfig:
    given = {"space": "v3_large", "targets": (Target(latency_ms=15.0),), "objective": load_objective("mnasnet")}
    return RunConfig(**given | changes)  # type: ignore[arg-type]


def data(train: int, val: int = 1000) -> ImageData:
    def split(count: int) -> ArraySplit:
        return ArraySplit(np.zeros((count, 2, 2), np.uint8), np.arange(count) % 10)

    return ImageData("d", tuple("0123456789"), 2, True, split(train), split(val), split(val))


@given(
    train=st.integers(200, 60_000), left_s=st.floats(60, 36_000), speed=st.floats(20, 20_000),
    trials=st.one_of(st.none(), st.integers(1, 500)), trainings=st.floats(2, 12), stated=st.booleans(),
    trains=st.booleans(),
)  # fmt: skip
def test_the_parts_fit_into_the_whole(
    train: int, left_s: float, speed: float, trials: int | None, trainings: float, stated: bool, trains: bool
) -> None:
    images, usable_s = data(train), left_s - EXPORT_S
    recipe = prolonged(RECIPE, train) if stated else RECIPE
    asked = config(budget_s=left_s if stated else None, recipe=recipe)
    plan = make_plan(images, asked, Workload(trials, left_s, trainings), speed, trains=trains)
    assert plan.search_s is not None
    assert plan.search_s + plan.final_s <= usable_s + 1e-6
    longest_s = trainings * most_epochs(recipe) * epoch_s(images, recipe, speed)
    assert plan.final_s <= longest_s + 1e-6
    worth_s = SEARCH_COST * plan.final_s / trainings
    assert plan.search_s <= max(worth_s, (usable_s - longest_s) * stated) + 1e-6, "no longer than it is worth"
    assert 1 <= plan.candidate.recipe.epochs <= PROXY.epochs
    assert plan.expected_s() <= left_s + 1e-6
    epochs = affordable_epochs(recipe, images, usable_s / trainings, speed)
    assert 1 <= epochs <= most_epochs(recipe)
    assert epochs == 1 or trainings * epochs * epoch_s(images, recipe, speed) <= usable_s + 1e-6


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, RACE_COST),
    ({"budgets_ms": (5.0, 10.0, 15.0)}, 3 * RACE_COST),
    ({"baselines": ("mobilenet_v3_small",)}, RACE_COST + 1),
    ({"seeds": 3}, RACE_COST + 2 * 2),
    ({"seeds": 3, "baselines": ("mobilenet_v3_small", "mobilenet_v2")}, RACE_COST + 2 + 2 * 3),
    ({"targets": (Target(),)}, 2),
    ({"targets": (Target(),), "baselines": ("mobilenet_v3_small",)}, 2),
])  # fmt: skip
def test_what_the_end_of_a_run_costs(changes: dict[str, Any], expected: float) -> None:
    """In full trainings: a race, or without a budget the winner alone; what it is compared with; other seeds."""
    assert trainings_of(config(**changes)) == expected


def test_candidates_without_training_are_few_by_default() -> None:
    work = Workload(None, 600, RACE_COST)
    assert make_plan(data(2000), config(), work, 1000, trains=False).trials == UNTRAINED_TRIALS
    assert make_plan(data(2000), config(trials=7), work, 1000, trains=False).trials == 7


def test_a_random_search_takes_as_long_as_the_search() -> None:
    images = data(20_000)
    for left_s, trials in ((600.0, None), (None, 10)):
        work = Workload(trials, left_s, 2)
        for one, two in (
            tuple(make_plan(images, config(compare_random=compare), work, 1000.0) for compare in (False, True)),
            (shared(images, left_s, trials=trials), shared(images, left_s, trials=trials, compare_random=True)),
        ):
            if left_s is None:
                assert two.expected_s() == pytest.approx(one.expected_s() + 10 * one.candidate.seconds)
            else:
                assert one.search_s is not None
                assert two.search_s is not None
                assert two.search_s < one.search_s
                assert two.expected_s() <= left_s + 1


def test_several_winners_take_their_time() -> None:
    one, three = (shared(data(5000), None, trials=10, trainings=count * RACE_COST) for count in (1, 3))
    assert three.final_s == pytest.approx(3 * one.final_s)
    assert three.candidate == one.candidate


def test_without_a_limit_nothing_is_cut() -> None:
    plan = make_plan(data(50_000), config(), Workload(10, None, 2), 100)
    assert plan.candidate.recipe == PROXY
    assert plan.search_s is None


def test_short_time_cuts_images_first() -> None:
    plan = make_plan(data(50_000), config(), Workload(None, 600, 2), 1000)
    assert plan.candidate.recipe.epochs == PROXY.epochs
    assert plan.candidate.recipe.images is not None
    assert plan.candidate.recipe.images < 10_000
    assert plan.search_s is not None
    assert plan.search_s / plan.candidate.seconds >= 14, "time for a search that deserves its name"


# --- with a supernet


def shared(
    images: ImageData, left_s: float | None, speed: float = 1000, *, trials: int | None = None, trainings: float = 2,
    slower: float = 4, processes: int = 1, decided: tuple[Recipe, SupernetRecipe] | None = None, trained: bool = False,
    adapts: bool | None = None, **changes: Any,
) -> Plan:  # fmt: skip
    work, state = Workload(trials, left_s, trainings, processes), RunState(adapts=adapts)
    if decided:
        state = RunState(proxy=decided[0], supernet=decided[1])
    return make_supernet_plan(images, config(**changes), work, Speeds(speed, speed / slower), state, trained)


def test_in_another_runs_supernet_the_search_takes_the_candidates_part_alone() -> None:
    plan = shared(data(20_000), 3600, trained=True, adapts=False)
    first, adapted = (shared(data(20_000), 3600, adapts=adapts) for adapts in (None, True))
    assert plan.supernet is not None and plan.supernet.seconds == 0
    assert plan.search_s == pytest.approx((1 - SUPERNET_FRACTION) * SEARCH_COST * plan.final_s / 2)
    assert plan.final_s == first.final_s == adapted.final_s
    assert adapted.expected_s() == first.expected_s() > plan.expected_s()


@given(
    train=st.integers(200, 60_000), left_s=st.floats(60, 36_000), speed=st.floats(20, 20_000),
    trials=st.one_of(st.none(), st.integers(1, 500)), trainings=st.floats(2, 12), slower=st.floats(1.5, 10),
    stated=st.one_of(st.none(), st.integers(100, 5000)), finetune_epochs=st.sampled_from([0.0, 0.3, 1.0, 3.0]),
    long=st.booleans(),
)  # fmt: skip
def test_the_parts_of_a_search_with_a_supernet(
    train: int, left_s: float, speed: float, trials: int | None, trainings: float, slower: float, stated: int | None,
    finetune_epochs: float, long: bool,
) -> None:  # fmt: skip
    recipe = SupernetRecipe(images=stated)
    images, asked = data(train), min(train, stated or train)
    plan = shared(
        images, left_s, speed, trials=trials, trainings=trainings, slower=slower, supernet=recipe,
        finetune_epochs=finetune_epochs, budget_s=left_s if long else None,
    )  # fmt: skip
    assert plan.supernet is not None
    assert plan.search_s is not None
    usable, taken = left_s - EXPORT_S, plan.supernet.recipe.images or asked
    races_s = min(trainings * RECIPE.epochs * epoch_s(images, RECIPE, speed), RACE_FRACTION * usable)
    least_s = min(usable - races_s, SEARCH_COST * races_s / trainings)
    assert plan.final_s <= usable - least_s + 1e-6
    before = usable - plan.final_s
    if not long:
        before = min(before, SEARCH_COST * plan.final_s / trainings)
    assert plan.supernet.seconds == pytest.approx(plan.supernet.recipe.epochs * min(train, taken) * slower / speed)
    assert 1 <= plan.supernet.recipe.epochs <= recipe.epochs * (MAX_EPOCHS_FACTOR if long else 1)
    assert taken <= asked
    if taken < asked:
        assert plan.supernet.recipe.epochs == 1, "fewer images only where one epoch of all is too long"
        assert asked * slower / speed > SUPERNET_FRACTION * before - slower / speed
    least = taken <= max(10 * recipe.batch_size, 20 * images.num_classes) and plan.supernet.recipe.epochs == 1
    assert least or plan.supernet.seconds <= SUPERNET_FRACTION * before + 1e-6
    assert plan.search_s >= 0
    shortest = finetune_epochs == 0 or plan.candidate.recipe.images == plan.candidate.recipe.batch_size
    if not least and not shortest:
        assert plan.supernet.seconds + plan.search_s <= before + 1e-6
        assert plan.search_s > 0
        wanted_s = min(trials or FINETUNED_CANDIDATES, FINETUNED_CANDIDATES) * plan.candidate.seconds
        assert plan.search_s >= wanted_s * (1 - 1e-9), "candidates enough to choose among"
        assert plan.expected_s() <= left_s + 1e-6
    assert plan.candidate.recipe.epochs <= max(1, finetune_epochs)
    assert plan.candidate.recipe.images is None or plan.candidate.recipe.epochs == 1


def test_without_a_limit_the_supernet_trains_as_its_recipe_says() -> None:
    plan = shared(data(50_000), None, trials=10)
    assert plan.supernet is not None
    assert plan.supernet.recipe == SupernetRecipe()
    assert plan.search_s is None
    assert plan.candidate.recipe == config().finetune
    assert plan.supernet.seconds == pytest.approx(SupernetRecipe().epochs * 50_000 / 250)
    assert plan.expected_s() > plan.supernet.seconds + 10 * plan.candidate.seconds


def test_a_long_budget_trains_the_supernet_longer() -> None:
    images = data(5000)
    hours = [shared(images, 3600 * h, budget_s=3600.0 * h).supernet for h in (0.125, 0.25, 0.5, 100)]
    epochs = [plan.recipe.epochs for plan in hours if plan is not None]
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == SupernetRecipe().epochs * MAX_EPOCHS_FACTOR, "and at last as long as makes sense"
    by_default = [shared(images, 360_000, slower=slower).supernet for slower in (2, 8)]
    epochs = [plan.recipe.epochs for plan in by_default if plan is not None]
    assert epochs[0] == SupernetRecipe().epochs, "without --budget it is not longer than its recipe"
    assert 1 <= epochs[1] < SupernetRecipe().epochs, "nor than its share of one full training"


def test_short_time_makes_fine_tuning_shorter_not_rarer() -> None:
    images = data(20_000)
    plans = [shared(images, minutes * 60, budget_s=minutes * 60.0) for minutes in (8, 15, 30, 240)]
    seen = [plan.candidate.recipe.images or 20_000 for plan in plans]
    assert seen == sorted(seen)
    assert seen[0] < seen[1] < seen[-1] == 20_000
    for plan in plans:
        assert plan.search_s is not None
        assert plan.search_s / plan.candidate.seconds >= 23, "candidates enough to choose among"


def test_part_of_an_epoch_is_of_the_images_that_are_taken() -> None:
    recipe = Recipe(epochs=1, batch_size=32, images=400)
    plan = shared(data(20_000), None, trials=5, finetune=recipe, finetune_epochs=0.5)
    assert plan.candidate.recipe.images == 200


def test_hopeless_candidates_are_left_after_inherited_weights_only_where_training_on_takes_long() -> None:
    assert not shared(data(2000), None, trials=5).candidate.select
    assert shared(data(60_000), None, trials=5).candidate.select


def test_no_candidate_is_left_for_a_front_or_among_several_processes() -> None:
    """Of a front nothing is hopeless; and where one process alone could leave them, equal ones would fare otherwise."""
    assert not shared(data(60_000), None, trials=5, processes=2).candidate.select
    front = config().model_copy(update={"objective": load_objective("pareto")})
    assert not make_supernet_plan(data(60_000), front, Workload(5, None, 2), Speeds(1000, 250)).candidate.select


def test_a_resumed_run_goes_on_with_its_recipes() -> None:
    """And plans no second training of the supernet: half an hour is left of an hour."""
    images, hour = data(60_000, 10_000), 3600.0
    first = shared(images, hour, budget_s=hour)
    assert first.supernet is not None
    decided = first.candidate.recipe, first.supernet.recipe
    again = shared(images, hour / 2, budget_s=hour, decided=decided, trained=True)
    assert again.supernet is not None
    assert (again.candidate.recipe, again.supernet.recipe) == decided
    assert again.candidate.seconds == first.candidate.seconds
    assert again.supernet.seconds == 0
    assert again.search_s is not None
    assert again.search_s + again.final_s <= hour / 2 - EXPORT_S + 1e-6
    untrained = shared(images, hour / 2, budget_s=hour, decided=decided)
    assert untrained.supernet is not None
    assert untrained.supernet.seconds == first.supernet.seconds
    assert untrained.search_s is not None
    assert untrained.search_s < again.search_s


def test_several_processes_share_the_candidates() -> None:
    images = data(20_000)
    alone, shares = (shared(images, 900, budget_s=900.0, processes=count) for count in (1, 8))
    images_of = [plan.candidate.recipe.images or 20_000 for plan in (alone, shares)]
    assert images_of[0] < images_of[1], "each is fine-tuned for longer"
    whole = shared(images, None, trials=16, processes=8)
    assert whole.expected_s() == pytest.approx(shared(images, None, trials=2).expected_s())


@pytest.mark.parametrize(("epochs", "expected"), [
    (3.0, (3, None)), (2.9, (2, None)), (1.0, (1, None)), (0.5, (1, 500)), (0.25, (1, 250)), (0.001, (1, 32)),
    (0.0, (1, 32)),
])  # fmt: skip
def test_parts_of_an_epoch(epochs: float, expected: tuple[int, int | None]) -> None:
    found = partial_epochs(Recipe(epochs=7, batch_size=32), epochs, 1000)
    assert (found.epochs, found.images) == expected


@pytest.mark.parametrize(("changes", "own", "words"), [
    ({}, False, ["6 epoch", "10 candidates", "1 epoch"]),
    ({"finetune_epochs": 0.0}, False, ["inherited weights"]),
    ({}, True, ["own estimator"]),
])  # fmt: skip
def test_a_search_says_what_it_will_do(changes: dict[str, Any], own: bool, words: list[str]) -> None:
    plan = shared(data(2000), None, trials=10, **changes)
    text = in_words(plan, config(**changes), 2000, own)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (89, "89 s"), (100, "2 min"), (3600, "60 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
