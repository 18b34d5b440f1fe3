from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from mnas import zoo
from mnas.errors import BadInput
from mnas.latency import measure as measuring
from mnas.latency.device import device_name
from mnas.latency.measure import measure, measure_networks, summary


def busy(ms: float) -> Callable[[], None]:
    def run() -> None:
        end = time.perf_counter_ns() + int(ms * 1e6)
        while time.perf_counter_ns() < end:
            pass

    return run


@pytest.fixture(autouse=True)
def garbage_collection_as_before() -> Iterator[None]:
    yield
    gc.enable()


def test_known_durations() -> None:
    found = measure({"short": busy(0.4), "long": busy(1.2)}, rounds=15, rng=random.Random(0))
    assert 0.4 <= found["short"].median_ms < 0.6
    assert 1.2 <= found["long"].median_ms < 1.6
    assert found["short"].rounds == 15
    assert found["short"].spread_ms >= 0


def test_very_short_runs_are_repeated_within_a_sample() -> None:
    calls = 0

    def run() -> None:
        nonlocal calls
        calls += 1
        busy(0.01)()

    found = measure({"run": run}, rounds=6, rng=random.Random(0))
    assert calls > 6 * 10
    assert 0.01 <= found["run"].median_ms < 0.02
    calls = 0
    measure({"run": run}, rounds=6, warmup=2, rng=random.Random(0), settle=3, sample_us=0)
    assert calls == 2 + 6 * (3 + 1)


def test_each_round_runs_everything_once_in_a_new_order() -> None:
    ran: list[str] = []
    seen: list[tuple[int, int]] = []

    def noting(key: str) -> Callable[[], None]:
        return lambda: ran.append(key)

    def rounds_of(seed: int) -> list[tuple[str, ...]]:
        ran.clear()
        seen.clear()
        measure(
            {key: noting(key) for key in "abcd"}, rounds=8, warmup=1, rng=random.Random(seed), settle=0, sample_us=0,
            progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip
        timed = ran[4:]  # after the warm-up
        return [tuple(timed[i : i + 4]) for i in range(0, len(timed), 4)]

    orders = rounds_of(0)
    assert len(orders) == 8
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 3
    assert rounds_of(0) == orders != rounds_of(1)
    assert seen == [(i, 8) for i in range(1, 9)]


def test_stops_when_time_is_up_but_not_before_five_rounds() -> None:
    found = measure({"run": busy(1)}, rounds=1000, rng=random.Random(0), seconds=0)
    assert found["run"].rounds == 5
    found = measure({"run": busy(1)}, rounds=1000, rng=random.Random(0), seconds=0.05)
    assert 5 <= found["run"].rounds < 1000


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
        measure({"run": run}, rounds=5, rng=random.Random(0), sample_us=0)
    except RuntimeError:
        assert fails
    assert inside
    assert not any(inside)
    assert gc.isenabled() == was_on


def test_interval_of_the_median_by_order_statistics() -> None:
    # of 30 samples, the 10th and the 21st; P(Binomial(30, 1/2) <= 9) = 0.021
    shuffled = random.Random(0).sample(range(1, 31), 30)
    assert summary(shuffled) == measuring.Measurement(15.5, (21 - 10) / 2, 30)
    assert summary([1, 2, 3, 4, 5, 6]).spread_ms == 2.5  # 1/64 on each side
    assert summary([1, 2, 4]) == measuring.Measurement(2, 1.5, 3)
    assert summary([7]) == measuring.Measurement(7, 0, 1)


def test_nothing_to_measure() -> None:
    assert measure({}, rng=random.Random(0)) == {}
    assert measure_networks([], rng=random.Random(0)) == []


def test_refuses_senseless_counts() -> None:
    with pytest.raises(BadInput, match="at least 1 round"):
        measure({"run": busy(0)}, rounds=0, rng=random.Random(0))
    with pytest.raises(BadInput, match="warm-up"):
        measure({"run": busy(0)}, warmup=-1, rng=random.Random(0))


def test_device_name_is_stable_and_has_the_cores() -> None:
    name = device_name()
    device_name.cache_clear()
    assert device_name() == name
    assert "core" in name
    assert len(name) > len(", 1 core")
    assert "\n" not in name


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_networks_come_back_in_order_also_in_parts(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "NETWORKS_AT_ONCE", 2)
    # far apart, so that the order shows on a busy machine too
    archs = [
        zoo.get("mobilenet_v3_small", resolution=128), zoo.get("mobilenet_v3_small", 0.35, 32),
        zoo.get("mobilenet_v1", resolution=256),
    ]  # fmt: skip
    before, weights = torch.get_num_threads(), torch.get_rng_state()
    found = measure_networks(archs, runtime=runtime, rounds=9, num_classes=10, rng=random.Random(0))
    assert [m.rounds for m in found] == [9, 9, 9]
    assert max(found[0].median_ms, found[1].median_ms) < found[2].median_ms
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), weights)


def test_thread_count_is_restored_after_an_exception() -> None:
    torch.set_num_threads(before := 2)
    with pytest.raises(BadInput):
        measure_networks([zoo.get("mnasnet_small", resolution=32)], threads=1, rounds=0, rng=random.Random(0))
    assert torch.get_num_threads() == before
