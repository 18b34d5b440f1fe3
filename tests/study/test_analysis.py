"""Importances of choices that are known, the front, the comparison with random search."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from small_study import tiny_space

from mnas.config import RunConfig, load_objective
from mnas.io.presets import preset_names
from mnas.space.architecture import Architecture
from mnas.space.space import SearchSpace, load_space
from mnas.study.analysis import (
    MIN_TRIALS,
    analyse,
    best_so_far,
    compare,
    features,
    front_of,
    importance,
    indistinguishable,
)
from mnas.study.trial import Evaluation, Trial

ARCH = next(tiny_space().enumerate())


def sampled(space: SearchSpace, count: int, accuracy: Callable[[Architecture], float]) -> list[Trial]:
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(count)]
    return [Trial(number, "complete", arch, 1.0, accuracy(arch)) for number, arch in enumerate(archs)]


@pytest.mark.parametrize(("choice", "accuracy"), [
    ("resolution", lambda arch: arch.resolution / 100),
    ("stage2.depth", lambda arch: len(arch.stages[1]) / 4),
    ("stage2.kernel", lambda arch: sum(block.kernel for block in arch.stages[1]) / len(arch.stages[1]) / 10),
    ("stage3.activation", lambda arch: sum(b.activation == "relu" for b in arch.stages[2]) / len(arch.stages[2]) / 2),
])  # fmt: skip
def test_the_choice_that_decides_is_found(choice: str, accuracy: Callable[[Architecture], float]) -> None:
    space = tiny_space()
    found = importance(space, sampled(space, 40, accuracy), seed=0)
    assert next(iter(found)) == choice
    assert found[choice] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found == importance(space, sampled(space, 40, accuracy), seed=0)


def test_rectangles_are_compared_by_their_pixels() -> None:
    space = tiny_space().with_resolutions(((24, 32), (36, 48)))
    assert {features(space, arch)["resolution"] for arch in space.enumerate()} == {(24 * 32) ** 0.5, (36 * 48) ** 0.5}
    found = importance(space, sampled(space, 40, lambda arch: arch.resolution[0] / 100), seed=0)  # type: ignore[index]
    assert max(found, key=lambda name: found[name]) == "resolution"


def test_no_importances_from_few_or_equal_trials() -> None:
    space = tiny_space()
    assert importance(space, sampled(space, MIN_TRIALS - 1, lambda arch: arch.resolution / 100), 0) == {}
    assert importance(space, sampled(space, 40, lambda arch: 0.5), 0) == {}
    assert importance(space, sampled(space, 1, lambda arch: 0.5) * 40, 0) == {}
    equal = sampled(space, 40, lambda arch: 0.5)
    pruned = [Trial(trial.number, "pruned", trial.architecture, 1.0, trial.number / 50) for trial in equal]
    assert importance(space, pruned, 0) == {}


@pytest.mark.parametrize("name", preset_names("search_spaces"))
def test_every_choice_of_every_space_is_a_number(name: str) -> None:
    space, rng = load_space(name), random.Random(1)
    stages = {"resolution", "width", *(f"stage{n}" for n in range(1, len(space.file.stages) + 1))}
    for _ in range(20):
        arch = space.sample(rng)
        assert {feature.partition(".")[0] for feature in features(space, arch)} <= stages


# --- the front, the comparison


def trials_of(*points: tuple[float, float]) -> list[Trial]:
    return [Trial(number, "complete", ARCH, ms, accuracy) for number, (accuracy, ms) in enumerate(points)]


def test_the_front_goes_from_fast_to_slow() -> None:
    trials = [*trials_of((0.9, 9.0), (0.7, 4.0), (0.6, 5.0), (0.8, 4.5)), Trial(4, "pruned", ARCH, 1.0, 0.99)]
    assert [trial.number for trial in front_of(trials)] == [1, 3, 0]


def test_the_best_so_far_is_finished_and_within_the_budget() -> None:
    complete = trials_of((0.5, 4.0), (0.9, 6.0), (0.4, 1.0), (0.5, 3.0), (0.6, 5.0))
    trials = [Trial(0, "pruned", ARCH, 1.0, 0.9), *complete]
    curve = [None if trial is None else trial.accuracy for trial in best_so_far(trials, 5.0)]
    assert curve == [None, 0.5, 0.5, 0.5, 0.5, 0.6]
    assert best_so_far(trials, 5.0)[4] is trials[1], "of equal ones the first"


def test_the_comparison_is_at_equal_numbers_and_within_the_budget() -> None:
    over = Trial(2, "over_budget", ARCH, 20.0)
    searched = [*trials_of((0.9, 9.0), (0.7, 4.0)), over, *trials_of((0.8, 5.0), (0.95, 5.0))]
    assert compare(searched, trials_of((0.6, 6.0), (0.5, 3.0), (0.55, 4.0)), 5.0) == {
        "trials": 3, "best_accuracy": 0.55, "best_latency_ms": 4.0, "curve": [None, 0.5, 0.55],
        "search_best_accuracy": 0.8, "search_best_latency_ms": 5.0, "search_curve": [None, 0.7, 0.8],
    }  # fmt: skip
    assert compare(searched, [], 5.0)["best_accuracy"] is None
    assert compare(searched, trials_of((0.6, 99.0)), None)["search_best_accuracy"] == 0.9


def test_candidates_within_the_noise_of_the_best_are_counted() -> None:
    def trial(number: int, accuracy: float, ms: float, images: int | None = 100) -> Trial:
        evaluation = Evaluation("trained", images=images)
        return Trial(number, "complete", ARCH, ms, accuracy, evaluation=evaluation)

    some = [trial(0, 0.90, 5.0), trial(1, 0.85, 4.0), trial(2, 0.70, 3.0), trial(3, 0.99, 20.0)]
    assert indistinguishable(some, 10.0) == 2
    assert indistinguishable([trial(t.number, t.accuracy or 0, t.latency_ms, 10_000) for t in some], 10.0) == 1
    assert indistinguishable([trial(0, 0.9, 5.0, None)], 10.0) is None
    assert indistinguishable([], 10.0) is None


@pytest.mark.parametrize(("objective", "compared", "keys"), [
    ("mnasnet", False, {"importance"}), ("pareto", False, {"importance", "front"}),
    ("pareto", True, {"importance", "front", "random"}),
])  # fmt: skip
def test_the_analysis_in_metrics_json(objective: str, compared: bool, keys: set[str]) -> None:
    about: dict[str, Any] = {"budgets_ms": (5.0, 10.0)} if objective == "pareto" else {}
    config = RunConfig(
        space="tiny", targets=({"latency_ms": 10.0},), objective=load_objective(objective).model_dump(),
        compare_random=compared, **about,
    )  # fmt: skip
    trials = trials_of((0.9, 9.0), (0.7, 4.0), (0.8, 4.5))
    metrics = analyse(config, tiny_space(), trials, trials_of((0.95, 9.0), (0.6, 3.0))).metrics(5.0)
    assert set(metrics) == keys
    if "front" in keys:
        assert [(row["trial"], row["knee"]) for row in metrics["front"]] == [(1, False), (2, True), (0, False)]
    if compared:
        assert (metrics["random"]["search_best_accuracy"], metrics["random"]["best_accuracy"]) == (0.7, 0.6)
