"""Verdicts: golden numbers worked out by hand, and intervals that cover what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnas.pipeline.verdict import (
    Difference,
    Scored,
    difference,
    difference_of,
    seed_facts,
    seed_values,
    verdict_words,
    verdicts,
)
from mnas.training.judgement import Judgement


def judged(correct: NDArray[np.bool_], labels: NDArray[np.int64] | None = None) -> Judgement:
    """Of two classes; the first one's images, unless `labels` state others."""
    labels = np.zeros(len(correct), np.int64) if labels is None else labels
    return Judgement(labels, np.where(correct, labels, 1 - labels), 2)


def table(both: int, first: int, second: int, neither: int) -> tuple[Judgement, Judgement]:
    """Two judgements by the number of images that both, only the first, only the second, and neither get right."""
    counts = [both, first, second, neither]
    return judged(np.repeat([True, True, False, False], counts)), judged(np.repeat([True, False, True, False], counts))


def test_one_seed_by_hand() -> None:
    one, other = table(80, 12, 4, 4)
    found = difference([one], [other])
    assert found.points == pytest.approx(8.0)
    standard_error = math.sqrt(12 + 4 + 1 - 8**2 / 102) / 102
    assert found.half_width == pytest.approx(100 * 1.959964 * standard_error)
    assert found.half_width == pytest.approx(7.775, abs=0.001)
    assert verdict_words(found) == "better by 8.0 +- 7.8 points"
    assert difference([other], [one]).points == pytest.approx(-8.0)


def test_several_seeds_by_hand() -> None:
    """Accuracies 60, 70, 80% and 50, 50, 50% of ten images."""
    ten = np.arange(10)
    found = difference([judged(ten < k) for k in (6, 7, 8)], [judged(ten < 5) for _ in range(3)])
    assert found.points == pytest.approx(20.0)
    # each image's differences: 1, 2/3, 1/3; the variance of 0.6, 0.7, 0.8 is 0.01
    images = (1 + 4 / 9 + 1 / 9 + 1 - 2**2 / 12) / 12**2
    seeds = 0.01 / 3
    freedom = (images + seeds) ** 2 / (seeds**2 / 2)
    assert freedom == pytest.approx(63.39, abs=0.01)
    quantile = 1.9981  # Student's, 97.5%: 2.0003 for 60 degrees of freedom, 1.9944 for 70
    assert found.half_width == pytest.approx(100 * quantile * math.sqrt(images + seeds), rel=2e-4)


def test_equal_networks_can_not_be_told_apart() -> None:
    one, other = table(350, 0, 0, 10)
    found = difference([one], [other])
    assert found.points == 0
    assert found.half_width == pytest.approx(100 * 1.959964 / 362)
    assert verdict_words(found) == "can not be told apart (0.0 +- 0.5 points)"
    assert verdict_words(difference([one] * 3, [other] * 3)) == "can not be told apart (0.0 +- 0.5 points)"


@pytest.mark.parametrize(("only_first", "told_apart"), [(3, False), (4, False), (8, True)])
def test_few_images_say_little(only_first: int, told_apart: bool) -> None:
    """As the exact test of McNemar: p is 0.25, 0.125 and 0.008."""
    one, other = table(300, only_first, 0, 10)
    assert difference([one], [other]).told_apart == told_apart


def test_a_network_of_one_seed_varies_as_the_other() -> None:
    ten = np.arange(10)
    several = [judged(ten < k) for k in (6, 7, 8)]
    one = difference(several, [judged(ten < 5)])
    assert one.points == pytest.approx(20.0)
    assert one.half_width > difference(several, [judged(ten < 5)] * 3).half_width
    assert one.half_width == difference([judged(ten < 5)], several).half_width


def test_other_images_are_an_independent_sample() -> None:
    """As where an image could be decoded for one of the networks only."""
    rng = np.random.default_rng(0)
    labels, correct = rng.integers(0, 2, 400), rng.random(400) < 0.9
    one, same = judged(correct, labels), judged(correct[1:], labels[1:])
    found = difference([one], [same])
    share = (correct.sum() + 1) / 402
    assert found.half_width == pytest.approx(100 * 1.96 * math.sqrt(2 * share * (1 - share) / 402), rel=0.02)
    assert found.half_width > 4 * difference([one], [one]).half_width
    assert not found.told_apart


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="at least once"):
        difference([table(1, 1, 1, 1)[0]], [])


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.006])
def test_coverage(seeds: int, spread: float) -> None:
    """Of 600 comparisons of two networks of 93% and 91%, at least 93% have intervals that contain the 2 points.

    Images are of unequal difficulty, which both networks share in part; a seed moves the accuracy of all images by
    `spread`, and decides single images. One seed is about the two trained networks, so that its spread is no error.
    """
    rng = np.random.default_rng(seeds)
    covered, repeats, images = 0, 600, 400
    for _ in range(repeats):
        difficulty = rng.uniform(-1, 1, images)
        groups, truth = [], []
        for mean in (0.93, 0.91):
            shifts = mean + rng.normal(0, spread, seeds)
            truth.append(shifts.mean() if seeds == 1 else mean)
            own = 0.5 * difficulty + 0.5 * rng.uniform(-1, 1, images)
            chance = np.clip(shifts[:, None] + 0.06 * own, 0, 1)
            groups.append([judged(rng.random(images) < row) for row in chance])
        found = difference(*groups)
        covered += abs(found.points - 100 * (truth[0] - truth[1])) <= found.half_width
    assert covered / repeats >= 0.93
    assert seeds > 1 or covered / repeats <= 0.98, "not wider than it must be"


@pytest.mark.parametrize(
    ("points", "half_width", "words"),
    [
        (0.9, 0.4, "better by 0.9 +- 0.4 points"),
        (-0.9, 0.4, "worse by 0.9 +- 0.4 points"),
        (0.3, 0.9, "can not be told apart (0.3 +- 0.9 points)"),
        (-0.3, 0.9, "can not be told apart (-0.3 +- 0.9 points)"),
        (0.94, 0.91, "better by 0.94 +- 0.91 points"),
        (0.86, 0.92, "can not be told apart (0.9 +- 0.9 points)"),
        (-0.04, 0.5, "can not be told apart (0.0 +- 0.5 points)"),
        (0.03, 0.02, "better by 0.03 +- 0.02 points"),
    ],
)
def test_words(points: float, half_width: float, words: str) -> None:
    assert verdict_words(Difference(points, half_width)) == words


@given(st.floats(-20, 20), st.floats(0.001, 20))
def test_words_say_what_their_figures_say(points: float, half_width: float) -> None:
    found = Difference(points, half_width)
    words = verdict_words(found)
    left, _, right = words.partition(" +- ")
    shown, width = abs(float(left.split()[-1].lstrip("("))), float(right.split()[0])
    assert (shown > width) == found.told_apart or abs(abs(points) - half_width) < 1e-5
    assert words.startswith("can not") != found.told_apart


def test_balanced_accuracy_by_hand() -> None:
    """90 images of the first class and 10 of the second: what is gained there counts nine times as much."""
    labels = np.repeat([0, 1], [90, 10])
    one = judged(np.concatenate([np.arange(90) < 80, np.arange(10) < 8]), labels)
    other = judged(np.concatenate([np.arange(90) < 86, np.arange(10) < 5]), labels)
    assert difference([one], [other]).points == pytest.approx(-3.0)
    found = difference([one], [other], "balanced")
    assert found.points == pytest.approx(100 * ((80 / 90 + 0.8) - (86 / 90 + 0.5)) / 2)
    weights = 100 / (2 * 90), 100 / (2 * 10)
    differences = 3 * weights[1] - 6 * weights[0]
    variance = (3 * weights[1] ** 2 + 6 * weights[0] ** 2 + 1 - differences**2 / 102) / 102**2
    assert found.half_width == pytest.approx(100 * 1.959964 * math.sqrt(variance))
    row = verdicts([one], {"other": [other]}, "balanced")[0]
    assert (row["metric"], row["points"]) == ("balanced", found.points)


def test_balanced_accuracy_covers_the_truth() -> None:
    """Also where images could not be decoded for one of the networks, which makes their images independent samples."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], [360, 40])
    for missing in (0, 1):
        covered, repeats = 0, 400
        for _ in range(repeats):
            chances = [np.where(labels == 0, *pair) for pair in ((0.95, 0.8), (0.97, 0.7))]
            one, other = (judged(rng.random(400) < chance, labels) for chance in chances)
            if missing:
                other = Judgement(other.labels[1:], other.predicted[1:], 2)
            found = difference([one], [other], "balanced")
            covered += abs(found.points - 100 * (0.875 - 0.835)) <= found.half_width
        assert 0.92 <= covered / repeats <= 0.985


def test_a_winner_and_its_baselines() -> None:
    one, other = table(80, 12, 4, 4)
    rows = verdicts([one, one, one], {"same": [one, one, one], "other": [other]})
    assert [(row["baseline"], row["seeds"]) for row in rows] == [("same", 3), ("other", 1)]
    assert rows[0]["points"] == 0
    assert rows[1]["points"] == pytest.approx(8.0)
    assert rows[1]["verdict"] == verdict_words(Difference(rows[1]["points"], rows[1]["half_width"]))


def test_of_a_figure_that_is_no_mean_over_images() -> None:
    """Student's interval of the mean difference in pseudo-values, with a freedom of the groups less one."""
    first, second = Scored([0.6], np.asarray([0.5, 0.7, 0.6])), Scored([0.4], np.asarray([0.4, 0.4, 0.4]))
    found = difference_of(first, second)
    assert found.points == pytest.approx(20)
    assert found.half_width == pytest.approx(100 * 4.302653 * 0.1 / math.sqrt(3), rel=1e-4)
    assert not found.told_apart and difference_of(first, first).points == 0
    many = Scored([0.6, 0.7], first.parts)
    assert difference_of(many, Scored([0.4, 0.4], second.parts)).points == pytest.approx(25)
    sd = pytest.approx(0.0707, abs=1e-4)
    assert seed_values([0.6, 0.7]) == {"values": [0.6, 0.7], "mean": pytest.approx(0.65), "sd": sd}


def test_seed_facts() -> None:
    ten = np.arange(10)
    facts = seed_facts([judged(ten < k) for k in (6, 7, 8)])
    assert facts["accuracies"] == [0.6, 0.7, 0.8]
    assert facts["mean"] == pytest.approx(0.7)
    assert facts["sd"] == pytest.approx(0.1)
    assert seed_facts([judged(ten < 6)]) == {"accuracies": [0.6], "mean": 0.6, "sd": None}
