"""The race: who trains on, who is dropped, and that a killed race ends as an unbroken one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnas
from mnas.latency.timing.rounds import Measurement
from mnas.pipeline.race import (
    Contender,
    Placing,
    Rules,
    displaced_by,
    ordered,
    published_first,
    race,
    rungs_of,
    survivors,
    tied,
)
from mnas.training.full import Standing

ARCH = mnas.zoo.get("mobilenet_v3_small", 0.35, 32)
IMAGES, EPOCHS = 200, 32


def rank(accuracy: float, latency_ms: float) -> tuple[float, float]:
    return accuracy, -latency_ms


def contender(name: str, kind: str = "found", ms: float = 5.0) -> Contender:
    return Contender(name, ARCH, kind, Measurement(ms, 0.1, 30), epochs=EPOCHS)  # type: ignore[arg-type]


def standing(correct: int, epochs: int = 1, shift: int = 0) -> Standing:
    return Standing(epochs, np.roll(np.arange(IMAGES) < correct, shift), 1.0 * epochs)


def placings(*correct: int | None, references: Sequence[int] = ()) -> list[Placing]:
    """Placings by the images that each gets right, best first."""
    made = [
        Placing(contender(str(i), "reference" if i in references else "found"), None if n is None else standing(n))
        for i, n in enumerate(correct)
    ]
    return ordered(made, rank)


def names(kept: Sequence[Placing]) -> list[str]:
    return [placing.contender.name for placing in kept]


def best_first(placings: Sequence[Placing]) -> list[Placing]:
    return ordered(placings, rank)


NEVER, ALWAYS = (Rules(best_first, lambda *_, affords=affords: affords) for affords in (False, True))
"""Whether time allows for ties to train on."""
ALONE = replace(NEVER, compared=False)
EARLY = 1 / 8


@pytest.mark.parametrize(("epochs", "after"), [
    (30, (4, 8, 15)), (8, (1, 2, 4)), (4, (1, 2)), (2, (1,)), (1, ()), (100, (12, 25, 50)),
])  # fmt: skip
def test_rungs(epochs: int, after: tuple[int, ...]) -> None:
    rungs = rungs_of(epochs)
    assert tuple(replace(contender("any"), epochs=epochs).epochs_at(rung) for rung in rungs) == after
    assert list(rungs) == sorted(set(rungs)) and all(0 < rung < 1 for rung in rungs)


def test_the_first_rung_is_left_out_where_it_comes_too_early() -> None:
    assert rungs_of(30, 4) == (1 / 8, 1 / 4, 1 / 2)
    assert rungs_of(30, 5) == rungs_of(30, 30) == (1 / 4, 1 / 2)
    assert rungs_of(2, 30) == (1 / 2,)


def test_the_weaker_half_is_dropped() -> None:
    assert names(survivors(placings(180, 160, 140, 120, 100, 80), EARLY, ALWAYS)) == ["0", "1", "2"]
    assert names(survivors(placings(80, 100, 180, 160, 140), EARLY, ALWAYS)) == ["2", "3", "4"]


def test_the_best_reference_trains_on_however_weak() -> None:
    kept = survivors(placings(180, 160, 140, 120, 60, 80, references=(4, 5)), EARLY, ALWAYS)
    assert names(kept) == ["0", "1", "5"], "in the place of the last one above the line"
    kept = survivors(placings(180, 80, references=(1,)), EARLY, ALWAYS)
    assert names(kept) == ["0", "1"], "but not in the best one's"


def test_who_takes_the_place_of_one_that_did_better() -> None:
    fast = Placing(contender("fast", ms=3), standing(148, shift=9))
    slow = Placing(contender("slow", ms=9), standing(150))
    kept = [*placings(190), fast]
    assert displaced_by(slow, kept) is fast
    assert displaced_by(fast, [*placings(190), slow]) is None
    last = placings(180, 160, 60, references=(2,))
    assert displaced_by(last[1], [last[0], last[2]]) is last[2]
    assert displaced_by(last[2], last[:2]) is displaced_by(placings(None)[0], kept) is None


def test_without_time_to_compare_a_reference_is_dropped_like_any_other() -> None:
    assert names(survivors(placings(180, 160, 140, 120, 60, 80, references=(4, 5)), EARLY, ALONE)) == ["0", "1", "2"]
    assert names(survivors(placings(180, 80, references=(1,)), EARLY, ALONE)) == ["0"]


def test_without_time_to_compare_a_single_one_is_left_after_half_the_race() -> None:
    equal = [Placing(contender(str(i), ms=9 - i), standing(150, shift=i)) for i in range(4)]
    always = replace(ALWAYS, compared=False)
    assert names(survivors(equal, EARLY, always)) == ["0", "1", "2"]
    assert names(survivors(equal, 1 / 2, always)) == ["1"], "the faster of the first two"
    assert len(survivors(equal, 1 / 2, ALWAYS)) == 3


@pytest.mark.parametrize(("count", "after"), [(2, [2, 1]), (3, [3, 2]), (4, [3, 2]), (5, [4, 2]), (8, [6, 3])])
def test_who_trains_slowly_gets_a_second_chance(count: int, after: list[int]) -> None:
    alone = placings(*range(190, 190 - 20 * count, -20))
    rules = replace(ALONE, kept_first=0.75)
    left = [survivors(alone, EARLY, rules)]
    left.append(survivors(left[0], 1 / 4, rules))
    assert [len(kept) for kept in left] == after
    assert all(kept == alone[: len(kept)] for kept in left)


def test_of_two_that_cannot_be_told_apart_the_published_one_trains_on() -> None:
    two = [Placing(contender("found", ms=3), standing(150))]
    two += [Placing(contender("published", "reference", ms=9), standing(149, shift=9))]
    assert names(survivors(two, EARLY, ALONE)) == names(survivors(two[::-1], EARLY, ALONE)) == ["published"]


def test_a_diverged_contender_is_dropped() -> None:
    kept = survivors(placings(180, None, 140, None, references=(3,)), EARLY, ALWAYS)
    assert names(kept) == ["0"]


def test_a_tie_at_the_line_keeps_both_while_time_allows() -> None:
    three = [Placing(contender("best"), standing(190))]
    three += [Placing(contender("slow", ms=9), standing(150))]
    three += [Placing(contender("fast", ms=3), standing(148, shift=9))]
    three += [Placing(contender("last"), standing(100))]
    assert tied(three[1], three[2])
    assert names(survivors(three, EARLY, ALWAYS)) == ["best", "slow", "fast"]
    assert names(survivors(three, EARLY, NEVER)) == ["best", "fast"], "there is no time for both: the faster trains on"
    assert not tied(three[1], three[3])


def test_ties_count_only_the_images_on_which_they_differ() -> None:
    same = Placing(contender("a"), standing(150))
    assert tied(same, Placing(contender("b"), standing(150)))
    assert not tied(same, Placing(contender("b"), standing(148))), "nested: the second one gets nothing more right"
    assert tied(same, Placing(contender("b"), standing(148, shift=4)))


def test_ties_of_a_figure_that_is_no_share_of_images() -> None:
    """By pseudo-values of the same groups of images, not by the figures alone."""
    parts = np.asarray([0.2, 0.4, 0.6, 0.8])

    def scored(name: str, more: float, noise: float) -> Placing:
        moved = parts + more + noise * np.asarray([1, -1, 1, -1])
        return Placing(contender(name), Standing(1, np.zeros(0, bool), 1.0, value=0.5 + more, parts=moved))

    first = scored("a", 0.0, 0.0)
    assert tied(first, first) and tied(first, scored("b", 0.01, 0.1)) and not tied(first, scored("c", 0.1, 0.01))


def test_what_was_found_without_training_must_beat_the_published_network() -> None:
    def placed(found: int, reference: int | None, shift: int) -> list[Placing]:
        published = Placing(contender("published", "reference"), reference and standing(reference, shift=shift))
        others = [Placing(contender("a"), standing(found)), Placing(contender("b"), standing(100))]
        return ordered([*others, published], rank)

    assert names(published_first(placed(152, 150, 9))) == ["published", "a", "b"], "they cannot be told apart"
    assert names(published_first(placed(190, 150, 9))) == ["a", "published", "b"]
    assert names(published_first(placed(150, 190, 9))) == ["published", "a", "b"]
    assert names(published_first(placed(190, None, 0))) == ["a", "b", "published"], "its training diverged"
    assert names(published_first(placings(150, 140))) == ["0", "1"], "no reference has entered"


def test_a_head_start_does_not_decide_early() -> None:
    """Inherited weights lead at first: those who began with them are compared with each other until half the race."""
    inherited = [Placing(replace(contender(f"i{n}"), weights="inherited"), standing(n)) for n in (190, 180)]
    scratch = [Placing(contender(f"s{n}"), standing(n)) for n in (100, 50)]
    scratch += [Placing(contender("reference", "reference"), standing(40))]
    everyone = ordered([*scratch, *inherited], rank)
    assert names(survivors(everyone, EARLY, NEVER)) == ["i190", "s100", "reference"]
    assert names(survivors(everyone, 1 / 2, NEVER)) == ["i190", "i180", "reference"]
    assert names(survivors(scratch, EARLY, NEVER)) == ["s100", "reference"]


class Trainer:
    """Trains by a table of final accuracies: a standing of that accuracy at every epoch, and a record of the work."""

    def __init__(self, correct: dict[str, int | None], dies_after: int | None = None):
        self.correct, self.dies_after = correct, dies_after
        self.trained: dict[str, int] = {}

    def advance(self, contenders: Sequence[Contender], part: float) -> list[Standing | None]:
        made: list[Standing | None] = []
        for one in contenders:
            epochs = one.epochs_at(part)
            if self.dies_after is not None and sum(self.trained.values()) >= self.dies_after:
                raise KeyboardInterrupt
            self.trained[one.name] = max(epochs, self.trained.get(one.name, 0))
            correct = self.correct[one.name]
            made.append(None if correct is None else standing(correct, self.trained[one.name]))
        return made


def six(epochs: int = EPOCHS) -> list[Contender]:
    return [replace(contender(str(i), "found" if i < 3 else "reference"), epochs=epochs) for i in range(6)]


def test_the_best_wins_and_the_rest_train_no_longer_than_they_must() -> None:
    trainer = Trainer({"0": 100, "1": 180, "2": 120, "3": 90, "4": 170, "5": 80})
    placed = race(six(), rungs_of(EPOCHS), trainer.advance, NEVER)
    assert names(placed) == ["1", "4"], "the best, and the best reference beside it"
    assert trainer.trained == {"0": 4, "1": 32, "2": 8, "3": 4, "4": 32, "5": 4}
    assert sum(trainer.trained.values()) <= 2.7 * 32


def test_a_reference_may_win_and_then_runs_alone() -> None:
    trainer = Trainer({"0": 100, "1": 150, "2": 120, "3": 90, "4": 170, "5": 80})
    assert names(race(six(), rungs_of(EPOCHS), trainer.advance, NEVER)) == ["4"]


def test_without_time_to_compare_one_is_left_and_trains_as_long_as_there_is_time() -> None:
    trainer = Trainer({"0": 100, "1": 180, "2": 120, "3": 90, "4": 170, "5": 80})

    def settle(rung: float, placings: Sequence[Placing], kept: Sequence[Placing]) -> Mapping[str, int]:
        return {placing.contender.name: EPOCHS if len(kept) > 1 else 100 for placing in kept}

    assert names(race(six(), rungs_of(EPOCHS), trainer.advance, ALONE, settle)) == ["1"]
    assert trainer.trained == {"0": 4, "1": 100, "2": 8, "3": 4, "4": 16, "5": 4}


def test_a_race_of_one_epoch_trains_all() -> None:
    trainer = Trainer(dict.fromkeys("012345", 100))
    assert len(race(six(1), rungs_of(1), trainer.advance, NEVER)) == 6


def test_all_diverged() -> None:
    with pytest.raises(mnas.MnasError, match="diverged"):
        race(six(8), rungs_of(8), Trainer(dict.fromkeys("012345")).advance, NEVER)


@given(
    correct=st.lists(st.one_of(st.none(), st.integers(0, IMAGES)), min_size=6, max_size=6),
    dies_after=st.integers(0, 80), epochs=st.integers(1, 40),
)  # fmt: skip
def test_killed_at_any_moment_it_has_the_same_winner(
    correct: list[int | None], dies_after: int, epochs: int
) -> None:
    table: dict[str, int | None] = {str(i): value for i, value in enumerate(correct)}
    done: list[Mapping[str, int]] = []

    def settle(rung: float, placings: Sequence[Placing], kept: Sequence[Placing]) -> Mapping[str, int]:
        done.append({placing.contender.name: placing.contender.epochs + 3 for placing in kept})
        return done[-1]

    try:
        unbroken = names(race(six(epochs), rungs_of(epochs), Trainer(table).advance, ALWAYS))
    except mnas.MnasError:
        assert correct == [None] * 6
        return
    killed = Trainer(table, dies_after)
    try:
        placed = race(six(epochs), rungs_of(epochs), killed.advance, ALWAYS, settle)
    except KeyboardInterrupt:
        again = Trainer(table)
        again.trained = dict(killed.trained)
        placed = race(six(epochs), rungs_of(epochs), again.advance, ALWAYS, settle, list(done))
    assert names(placed) == unbroken


def test_classes_count_alike_where_images_have_weights() -> None:
    """Of 180 and 20 images: one is right about all of the first class, the other about most of both."""
    frequent = np.arange(IMAGES) < 180
    weights = np.where(frequent, IMAGES / (2 * 180), IMAGES / (2 * 20))
    always_first = Standing(1, frequent, 1.0, weights=weights)
    both = Standing(1, np.where(frequent, np.arange(IMAGES) % 10 > 1, np.arange(IMAGES) % 4 > 0), 1.0, weights=weights)
    assert always_first.accuracy == pytest.approx(0.5)
    assert both.accuracy == pytest.approx((0.8 + 0.75) / 2)
    assert replace(always_first, weights=None).accuracy > replace(both, weights=None).accuracy
    first, second = (Placing(contender(str(i)), one) for i, one in enumerate((always_first, both)))
    assert names(ordered([first, second], rank)) == ["1", "0"] and not tied(first, second)


def test_contenders_may_be_judged_on_other_numbers_of_images() -> None:
    """Images of the search-validation split may be gone when a race is resumed."""
    fewer = Standing(1, np.arange(100) < 80, 1.0)
    first, close, far = (Placing(contender(str(i)), one) for i, one in enumerate((fewer, standing(162), standing(60))))
    assert tied(first, close) and tied(close, first) and not tied(first, far)
