from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Iterator
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from timed_runs import World, busy

from mnas.latency.timing.rounds import (
    MAX_WARM_UPS,
    MIN_ROUNDS,
    Inference,
    Measurement,
    RoundLimits,
    by_key,
    sample,
    summary,
    wall_ms,
    without_drift,
)

Key = TypeVar("Key")


def medians(samples: dict[str, list[float]]) -> dict[str, float]:
    return {key: statistics.median(times) for key, times in samples.items()}


@pytest.fixture(autouse=True)
def garbage_collection_as_before() -> Iterator[None]:
    yield
    gc.enable()


# --- rounds -----------------------------------------------------------------------------------------------------


def test_each_round_times_everything_once_in_a_new_order() -> None:
    def orders_of(seed: int) -> list[str]:
        timed: list[str] = []
        runs = {key: (lambda key=key: key) for key in "abcd"}

        def timer(run: Inference, repeats: int) -> float:
            timed.append(str(run()))
            return 1.0

        sample(runs, RoundLimits(8), rng=random.Random(seed), timer=timer)
        warm_up = 4 * 4  # of a run that gets no faster: the first and three more
        assert timed[:warm_up] == list("aaaabbbbccccdddd")
        return ["".join(timed[i : i + 4]) for i in range(warm_up, len(timed), 4)]

    orders = orders_of(0)
    assert len(orders) == 8
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 3
    assert orders_of(0) == orders != orders_of(1)


def test_progress() -> None:
    world, seen = World(), list[tuple[int, int]]()
    sample(
        {"a": world.run(1)}, RoundLimits(3), rng=random.Random(0), timer=world.timer,
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_progress_counts_the_rounds_that_fit_into_the_time() -> None:
    seen = list[tuple[int, int]]()
    sample(
        {"a": lambda: time.sleep(0.002)}, RoundLimits(10_000, seconds=0.2), rng=random.Random(0),
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert 10 <= len(seen) < 100
    assert all(done <= total < 1000 for done, total in seen)
    assert seen[-1][0] == seen[-1][1]


def test_each_sample_follows_untimed_runs_and_short_runs_are_repeated_within_it() -> None:
    calls: list[str] = []

    def run() -> None:
        calls.append("run")

    def timer(run: Inference, repeats: int) -> float:
        calls.append(f"{repeats} timed")
        return 0.01

    sample({"a": run}, RoundLimits(2), rng=random.Random(0), timer=timer, settle=3, sample_us=200)
    assert calls[4:] == ["run", "run", "run", "20 timed"] * 2
    calls.clear()
    sample({"a": run}, RoundLimits(2), rng=random.Random(0), timer=timer, settle=0, sample_us=0)
    assert calls[4:] == ["1 timed"] * 2


def test_warms_up_until_it_gets_no_faster() -> None:
    def warm_ups(times: list[float]) -> tuple[int, list[float]]:
        count = 0

        def timer(run: Inference, repeats: int) -> float:
            nonlocal count
            count += 1
            return times[min(count, len(times)) - 1]

        found = by_key(sample({"a": lambda: None}, RoundLimits(5), rng=random.Random(0), timer=timer))["a"]
        return count - len(found), found

    assert warm_ups([1.0]) == (4, [1.0] * 5)
    assert warm_ups([9, 5, 3, 2, 1.5, 1]) == (6 + 3, [1] * 5)
    assert warm_ups([9, 9, 9, 1]) == (4 + 3, [1] * 5)  # the fourth says that it was not warm
    assert warm_ups([2, 1.99, 1.98, 1.97]) == (4, [1.97] * 5)  # 3% decide
    assert warm_ups([0.9**i for i in range(99)])[0] == 1 + MAX_WARM_UPS


@pytest.mark.alone
def test_wall_clock() -> None:
    tries = [wall_ms(busy(lambda: 0.5), 4) for _ in range(5)]
    assert 0.5 <= min(tries) < 0.6


# --- when it ends -----------------------------------------------------------------------------------------------


def test_ends_when_time_is_up_but_not_before_ten_rounds() -> None:
    def rounds_in(seconds: float) -> int:
        run = busy(lambda: 0.3)
        return len(sample({"a": run}, RoundLimits(10_000, seconds), rng=random.Random(0)))

    assert rounds_in(0) == MIN_ROUNDS == 10
    assert 10 <= rounds_in(0.05) < 200


@pytest.mark.parametrize(("noise", "precision", "low", "high"), [
    (0.0, 0.01, 10, 10), (0.1, 0.01, 20, 500), (0.1, 0.04, 11, 100), (0.1, 1e-9, 500, 500), (0.1, None, 500, 500),
])  # fmt: skip
def test_ends_when_every_interval_is_narrow(noise: float, precision: float | None, low: int, high: int) -> None:
    rng = random.Random(0)
    world = World(lambda now: rng.uniform(1 - noise, 1 + noise))
    runs = {key: world.run(ms) for key, ms in (("a", 1), ("b", 5), ("c", 9))}
    found = sample(runs, RoundLimits(500, precision=precision), rng=random.Random(1), timer=world.timer)
    counts = {len(times) for times in by_key(found).values()}
    assert len(counts) == 1
    assert low <= counts.pop() <= high
    if precision and precision > 1e-9:
        judged = map(summary, without_drift(found).values())
        assert all(one.spread_ms <= precision * one.median_ms for one in judged)


def test_fewer_rounds_than_ten_where_no_more_are_asked() -> None:
    world = World()
    found = sample({"a": world.run(1)}, RoundLimits(3, precision=1.0), rng=random.Random(0), timer=world.timer)
    assert found == [("a", 1)] * 3


def test_nothing_to_time() -> None:
    assert sample({}, RoundLimits(20), rng=random.Random(0)) == []
    assert without_drift([]) == {}


# --- garbage collection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_garbage_collection_is_off_inside_and_as_before_afterwards(was_on: bool, fails: bool) -> None:
    inside: list[bool] = []

    def run() -> None:
        inside.append(gc.isenabled())
        if fails and len(inside) > 3:
            raise RuntimeError("crashed")

    (gc.enable if was_on else gc.disable)()
    try:
        sample({"run": run}, RoundLimits(5), rng=random.Random(0), sample_us=0)
    except RuntimeError:
        assert fails
    assert inside
    assert not any(inside)
    assert gc.isenabled() == was_on


# --- drift ------------------------------------------------------------------------------------------------------

TRUE_MS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 5.0, "e": 8.0, "f": 13.0}


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_slows_down_in_the_middle_changes_no_ratio(seed: int) -> None:
    """Half of a plain median's samples are slow then; which half it shows is chance."""
    rounds, settle = 31, 1
    warm_up = 4 * sum(TRUE_MS.values())
    middle = warm_up + (rounds / 2) * (1 + settle) * sum(TRUE_MS.values())
    world = World(lambda now: 1.0 if now < middle else 1.5)
    runs = {key: world.run(ms) for key, ms in TRUE_MS.items()}
    found = sample(runs, RoundLimits(rounds), rng=random.Random(seed), timer=world.timer, settle=settle)

    def off(by: dict[str, float]) -> float:
        relative = [by[key] / ms for key, ms in TRUE_MS.items()]
        return max(relative) / min(relative) - 1

    assert off(medians(by_key(found))) > 0.4
    assert off(medians(without_drift(found))) < 0.02


def test_a_machine_that_slows_down_steadily_gives_narrow_intervals() -> None:
    world = World(lambda now: 1.0 + now / 4000)  # two and a half times as slow at the end
    runs = {key: world.run(ms) for key, ms in TRUE_MS.items()}
    found = sample(runs, RoundLimits(60), rng=random.Random(0), timer=world.timer)
    for key, times in without_drift(found).items():
        steady, plain = summary(times), summary(by_key(found)[key])
        assert plain.spread_ms > 0.1 * plain.median_ms
        assert steady.spread_ms < 0.02 * steady.median_ms


@pytest.mark.alone
def test_drift_of_the_real_clock() -> None:
    turn = 0

    def slowness() -> float:
        return 1.0 if turn < 15 else 1.6

    def next_round(done: int, total: int) -> None:
        nonlocal turn
        turn = done

    true_ms = {"a": 0.2, "b": 0.3, "c": 0.5, "d": 0.7}
    runs = {key: busy(lambda ms=ms: ms * slowness()) for key, ms in true_ms.items()}
    tries = []
    while not tries or (len(tries) < 5 and min(tries) > 0.05):  # a busy neighbour may spoil a try
        turn = 0
        found = sample(runs, RoundLimits(30), rng=random.Random(0), progress=next_round)
        assert all(max(times) > 1.5 * min(times) for times in by_key(found).values())
        relative = [ms / true_ms[key] for key, ms in medians(without_drift(found)).items()]
        tries.append(max(relative) / min(relative) - 1)
    assert min(tries) < 0.05


def drawn(true_ms: dict[Key, float], rounds: int, rng: random.Random) -> list[tuple[Key, float]]:
    """Samples in rounds, without any drift."""
    return [(key, true_ms[key]) for _ in range(rounds) for key in rng.sample(list(true_ms), len(true_ms))]


def test_intervals_are_honest_with_drift_taken_out() -> None:
    rng, held, narrower = random.Random(0), 0, []
    for _ in range(200):
        speed, samples = 0.0, list[tuple[int, float]]()
        for key, ms in drawn(dict.fromkeys(range(9), 1.0), 30, rng):
            speed = 0.98 * speed + rng.gauss(0, 0.03)  # what lasts for some fifty samples
            samples.append((key, ms * (1 + rng.gauss(0, 0.05)) * math.exp(speed)))
        steady = without_drift(samples)
        others = statistics.fmean(statistics.median(steady[key]) for key in range(1, 9))
        ordered = sorted(steady[0])
        held += ordered[9] <= others <= ordered[20]
        narrower.append(summary(steady[0]).spread_ms / summary(by_key(samples)[0]).spread_ms)
    assert held > 0.9 * 200
    assert statistics.fmean(narrower) < 0.6


def test_bursts_shorter_than_a_round_are_taken_out() -> None:
    rng = random.Random(0)
    true_ms = {key: rng.uniform(5, 15) for key in range(40)}
    slow, samples = 1.0, list[tuple[int, float]]()
    for key, ms in drawn(true_ms, 30, rng):
        if rng.random() < 0.1:  # ten samples long, four bursts a round
            slow = rng.choice([1.0, 1.0, 1.3])
        samples.append((key, ms * slow * (1 + rng.gauss(0, 0.01))))

    def off(times: dict[int, list[float]]) -> float:
        relative = [statistics.median(found) / true_ms[key] for key, found in times.items()]
        return statistics.pstdev(relative) / statistics.fmean(relative)

    assert off(by_key(samples)) > 0.03
    assert off(without_drift(samples)) < 0.006


@pytest.mark.parametrize("count", [3, 4, 9])
def test_a_hiccup_changes_no_ratio(count: int) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        samples = [(key, ms * (1 + rng.gauss(0, 0.01))) for key, ms in drawn(dict.fromkeys(range(count), 1.0), 30, rng)]
        at = rng.randrange(len(samples))
        samples[at] = (samples[at][0], 100.0)
        found = [statistics.median(times) for times in without_drift(samples).values()]
        assert max(found) / min(found) < 1.02


@given(
    st.lists(st.floats(0.01, 1000), min_size=3, max_size=8), st.floats(0.1, 10), st.integers(0, 20),
    st.integers(0, 2**32),
)  # fmt: skip
def test_a_change_that_all_have_in_common_is_taken_out(
    true_ms: list[float], factor: float, when: int, seed: int
) -> None:
    samples = drawn(dict(enumerate(true_ms)), 31, random.Random(seed))
    changed = when * len(true_ms)
    samples = [(key, ms * (factor if i >= changed else 1.0)) for i, (key, ms) in enumerate(samples)]
    relative = [statistics.median(times) / true_ms[key] for key, times in without_drift(samples).items()]
    assert max(relative) == pytest.approx(min(relative), rel=1e-6)


def test_one_thing_alone_that_varies_is_left_to_vary() -> None:
    rounds = [{"a": 1.0, "b": 2.0, "c": third, "d": 4.0} for third in [3.0, 6.0, 3.0] * 3]
    samples = [sample for found in rounds for sample in found.items()]
    assert without_drift(samples) == by_key(samples)


def test_of_two_things_nothing_common_can_be_told() -> None:
    samples = [("a", 1.0), ("b", 2.0), ("a", 2.0), ("b", 4.0), ("a", 3.0), ("b", 6.0)]
    assert without_drift(samples) == {"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 6.0]}


# --- the figures ------------------------------------------------------------------------------------------------


def test_interval_of_the_median_by_order_statistics() -> None:
    # of 30 samples, the 10th and the 21st; P(Binomial(30, 1/2) <= 9) = 0.021
    shuffled = random.Random(0).sample(range(1, 31), 30)
    assert summary(shuffled) == Measurement(15.5, (21 - 10) / 2, 30)
    assert summary([1, 2, 3, 4, 5, 6]).spread_ms == 2.5  # 1/64 on each side
    assert summary([1, 2, 4]) == Measurement(2, 1.5, 3)
    assert summary([7]) == Measurement(7, 0, 1)


@pytest.mark.parametrize("count", [6, 9, 10, 17, 50, 201])
def test_interval_is_that_of_the_binomial_distribution(count: int) -> None:
    below = int(binom.ppf(0.025, count, 0.5)) - 1  # the last rank with at most 2.5% below it
    assert binom.cdf(below, count, 0.5) <= 0.025 < binom.cdf(below + 1, count, 0.5)
    assert summary(list(range(count))).spread_ms == (count - 1 - 2 * below) / 2


def test_the_interval_holds_the_median_in_95_of_100() -> None:
    rng, held = random.Random(0), 0
    for _ in range(500):
        samples = [rng.expovariate(1.0) for _ in range(30)]
        low, high = sorted(samples)[9], sorted(samples)[20]
        assert summary(samples).spread_ms == pytest.approx((high - low) / 2)
        held += low <= 0.6931471805599453 <= high
    assert held >= 0.93 * 500
