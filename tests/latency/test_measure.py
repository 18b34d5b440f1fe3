from __future__ import annotations

import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timed_runs import World, busy

from mnas.errors import BadInput
from mnas.latency import measure as measuring
from mnas.latency.conditions import Conditions
from mnas.latency.measure import (
    ANCHORS,
    Measurement,
    anchor_inferences,
    instabilities,
    measure,
    measure_networks,
    rescaled_to_anchor,
)
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.build import build_table
from mnas.latency.timing.quiet import Watch
from mnas.latency.timing.rounds import Inference, RoundLimits, sample
from mnas.space import zoo
from mnas.space.cost import cost

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no system call for it")
needs_proc = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat")

TORCH = Conditions("torch")
ANCHOR_MS = (4.0, 9.0, 6.0)


def measured(world: World, runs: dict[str, Inference], rounds: int = 30, **how: Any) -> dict[str, Measurement]:
    """Beside anchors, on the world's clock."""
    anchors = [world.run(ms) for ms in ANCHOR_MS]
    limits = RoundLimits(rounds, **how)
    return measure(runs, limits, anchors=anchors, rng=random.Random(0), timer=world.timer)


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process works, as far as can be seen."""
    monkeypatch.setattr(Watch, "_now", staticmethod(lambda: (0.0, 0.0, 0.0)))


# --- the figures ------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_known_durations() -> None:
    tries: list[dict[str, Measurement]] = []
    while not tries or (len(tries) < 5 and tries[-1]["short"].median_ms > 0.5):  # a busy neighbour may spoil a try
        runs = {"short": busy(lambda: 0.4), "long": busy(lambda: 1.2)}
        tries.append(measure(runs, RoundLimits(15), rng=random.Random(0)))
    found = tries[-1]
    assert 0.4 <= found["short"].median_ms < 0.6
    assert 1.2 <= found["long"].median_ms < 1.6
    assert found["short"].rounds == 15
    assert found["short"].spread_ms >= 0
    assert found["short"].anchor_ms is None


@pytest.mark.usefixtures("at_rest")
def test_anchors_are_timed_beside_and_not_given_back() -> None:
    world = World(lambda now: 2.0)
    found = measured(world, {"a": world.run(5), "b": world.run(1)})
    anchor_ms = pytest.approx(2 * statistics.geometric_mean(ANCHOR_MS))
    assert list(found) == ["a", "b"]
    assert [one.median_ms for one in found.values()] == [10, 2]
    assert all((one.anchor_ms, one.spread_ms, one.rounds) == (anchor_ms, 0, 30) for one in found.values())
    assert not any(one.unstable for one in found.values())


@pytest.mark.usefixtures("at_rest")
def test_measurements_at_different_speeds_are_comparable_by_the_anchor() -> None:
    first = World()
    then = measured(first, {"a": first.run(5)})["a"]
    second = World(lambda now: 1.6)
    now = measured(second, {"a": second.run(5)})["a"]
    assert now.median_ms == pytest.approx(8)
    assert rescaled_to_anchor(now, then.anchor_ms).median_ms == pytest.approx(then.median_ms)
    assert rescaled_to_anchor(now, None) == now
    assert rescaled_to_anchor(Measurement(8, 0.5, 30), 3.0) == Measurement(8, 0.5, 30)
    assert rescaled_to_anchor(Measurement(8, 0.5, 30, anchor_ms=4), 2.0) == Measurement(4, 0.25, 30, anchor_ms=2)


@pytest.mark.usefixtures("at_rest")
def test_a_clock_that_changes_meanwhile_is_taken_out() -> None:
    """The machine has two speeds in turn; plain medians of single networks fall on either."""
    true_ms = {f"network{i}": 3.0 + i for i in range(6)}
    world = World(lambda now: 1.5 if now % 460 < 230 else 1.0)
    found = measured(world, {key: world.run(ms) for key, ms in true_ms.items()}, rounds=40)
    relative = [found[key].median_ms / ms for key, ms in true_ms.items()]
    assert max(relative) / min(relative) < 1.02
    anchor_ms = found["network0"].anchor_ms
    assert anchor_ms is not None
    assert anchor_ms / statistics.geometric_mean(ANCHOR_MS) == pytest.approx(relative[0], rel=0.02)


def test_nothing_to_measure() -> None:
    assert measure({}, rng=random.Random(0)) == {}
    assert measure_networks([], TORCH, rng=random.Random(0)) == []


@pytest.mark.parametrize(("limits", "option"), [
    (RoundLimits(0), "--rounds 0"), (RoundLimits(seconds=math.inf), "--seconds inf"),
    (RoundLimits(seconds=math.nan), "--seconds nan"), (RoundLimits(seconds=0), "--seconds 0"),
    (RoundLimits(precision=math.nan), "--precision nan"), (RoundLimits(precision=-0.01), "--precision -1"),
])  # fmt: skip
def test_refuses_senseless_limits(limits: RoundLimits, option: str) -> None:
    with pytest.raises(BadInput, match=option):
        measure({"run": busy(lambda: 0)}, limits, rng=random.Random(0))
    with pytest.raises(BadInput, match=option):
        measure_networks([], TORCH, limits, rng=random.Random(0))


# --- unstable ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_rest")
def test_a_wide_interval_is_unstable() -> None:
    rng, world = random.Random(0), World()
    noisy, calm = world.run(5, lambda: rng.uniform(0.6, 1.4)), world.run(5, lambda: rng.uniform(0.99, 1.01))
    found = measured(world, {"noisy": noisy, "calm": calm}, rounds=20)
    share = found["noisy"].spread_ms / found["noisy"].median_ms
    assert share > 0.05
    assert found["noisy"].unstable == f"its times vary: +-{100 * share:.0f}% after 20 rounds"
    assert found["calm"].unstable == ""
    more = measured(world, {"noisy": noisy}, rounds=2000, precision=0.03)["noisy"]
    assert 20 < more.rounds < 2000
    assert more.unstable == ""


@pytest.mark.usefixtures("at_rest")
def test_throttling_is_unstable() -> None:
    world = World(lambda now: 1.0 + now / 6000)
    found = measured(world, {"a": world.run(5), "b": world.run(20)})
    assert {one.unstable.partition(" became ")[0] for one in found.values()} == {"the machine"}
    assert all("% slower" in one.unstable for one in found.values())
    assert all(one.spread_ms < 0.05 * one.median_ms for one in found.values())


def test_instabilities_of_several_name_each_kind_once() -> None:
    found = [
        Measurement(1.0, 0.1, 9, unstable=why)
        for why in ("", "busy machine: a; its times vary: +-6% after 9 rounds", "its times vary: +-9%", "hot")
    ]
    assert instabilities(found) == "busy machine: a; its times vary: +-9%; hot"
    assert instabilities(found[:1]) == ""


@pytest.mark.alone
@needs_proc
def test_a_busy_machine_is_unstable() -> None:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        found = measure({"a": busy(lambda: 5)}, RoundLimits(10_000, seconds=0.7), rng=random.Random(0))["a"]
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert "busy machine: other processes used" in found.unstable


# --- pinned -----------------------------------------------------------------------------------------------------


@needs_affinity
@pytest.mark.parametrize("threads", [1, 2])
def test_runs_on_as_many_cores_as_threads(threads: int) -> None:
    before, inside = os.sched_getaffinity(0), set[int]()

    def run() -> None:
        inside.add(len(os.sched_getaffinity(0)))

    measure({"run": run}, RoundLimits(3), threads=threads, rng=random.Random(0))
    assert inside == {min(threads, len(before))}
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_cores_and_thread_count_are_restored_after_an_exception() -> None:
    torch.set_num_threads(2)
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match="negative"):
        measure_networks([zoo.get("mnasnet_small", resolution=32)], TORCH, num_classes=-1, rng=random.Random(0))
    with pytest.raises(ZeroDivisionError):
        measure({"run": lambda: 1 / 0}, RoundLimits(3), rng=random.Random(0))
    assert torch.get_num_threads() == 2
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_pytorch_has_no_more_threads_than_the_runtime_while_it_prepares(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with many cores they would wait for each other on one."""
    adapter, seen = get_runtime(runtime), set[int]()
    prepare = adapter.prepare

    def noted(module: torch.nn.Module, example: torch.Tensor, threads: int) -> Callable[[], object]:
        seen.add(torch.get_num_threads())
        return prepare(module, example, threads)

    monkeypatch.setattr(adapter, "prepare", noted)
    torch.set_num_threads(2)
    arch = zoo.get("mobilenet_v3_small", 0.35, 32)
    measure_networks([arch], Conditions(runtime), RoundLimits(1), num_classes=10, rng=random.Random(0))
    build_table(arch.layers(10)[:2], Conditions(runtime), rng=random.Random(0))
    assert seen == {1}
    assert torch.get_num_threads() == 2


# --- networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_networks_come_back_in_order_also_in_parts(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "NETWORKS_AT_ONCE", 2)
    # far apart, so that the order shows on a busy machine too
    archs = [
        zoo.get("mobilenet_v3_small", resolution=128), zoo.get("mobilenet_v3_small", 0.35, 32),
        zoo.get("mobilenet_v1", resolution=160),
    ]  # fmt: skip
    before, weights = torch.get_num_threads(), torch.get_rng_state()
    seen: list[tuple[int, int]] = []
    found = measure_networks(
        archs, Conditions(runtime), RoundLimits(2), num_classes=10, rng=random.Random(0),
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert max(found[0].median_ms, found[1].median_ms) < found[2].median_ms
    assert [one.rounds for one in found] == [2, 2, 2], "a round in each pass"
    assert all(one.anchor_ms == found[0].anchor_ms for one in found)
    assert all(one.repeatability is not None for one in found)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)], "two parts, each of them twice"
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), weights)


def test_no_more_rounds_than_fit_into_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """But ten in each pass."""
    shares: list[float] = []

    def spied(*args: Any, **options: Any) -> Any:
        shares.append(args[1].seconds)
        return sample(*args, **options)

    monkeypatch.setattr(measuring, "sample", spied)
    arch = zoo.get("mobilenet_v3_small", 0.35, 32)
    found = measure_networks([arch], TORCH, RoundLimits(100_000, seconds=0.002), num_classes=10, rng=random.Random(0))
    assert shares == [0.001, 0.001]
    assert found[0].rounds == 20


@pytest.mark.parametrize(("at_once", "seconds", "prepared"), [(2, 0.0, 4), (2, 1e6, 2), (1, 0.0, 4), (1, 1e6, 2)])
def test_networks_are_prepared_twice_but_once_where_that_takes_long(
    at_once: int, seconds: float, prepared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "NETWORKS_AT_ONCE", at_once)
    adapter, sizes = get_runtime("torch"), list[int]()
    prepare = adapter.prepare

    def noted(module: torch.nn.Module, example: torch.Tensor, threads: int) -> Callable[[], object]:
        sizes.append(example.shape[-1])
        run = prepare(module, example, threads)
        return lambda: (done.append(1), run())

    monkeypatch.setattr(adapter, "prepare", noted)
    done: list[int] = []
    # a clock on which a second passes with each run, and so many while something is prepared
    clock = SimpleNamespace(perf_counter=lambda: len(done) + seconds * len(sizes))
    monkeypatch.setattr(measuring, "time", clock)
    archs = [zoo.get("mobilenet_v3_small", 0.35, 64), zoo.get("mobilenet_v3_small", 0.5, 64)]
    found = measure_networks(archs, TORCH, RoundLimits(2), num_classes=10, rng=random.Random(0))
    assert sizes.count(64) == prepared
    assert len(sizes) == prepared + len(measuring.ANCHORS), "the anchors once"
    assert [one.rounds for one in found] == [2, 2]


def test_networks_that_take_long_to_prepare_are_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archs = [zoo.get("mobilenet_v3_small", 0.35, size) for size in (32, 48)]
    for seconds, lines in ((30.0, 0), (0.0, 1)):
        caplog.clear()
        monkeypatch.setattr(measuring, "SLOW_S", seconds)
        with caplog.at_level("INFO", "mnas"):
            measure_networks(archs, Conditions("torch"), RoundLimits(2), anchors=(), rng=random.Random(0))
        said = [line for line in caplog.messages if "preparing" in line]
        assert len({line.partition(", about")[0] for line in said}) == lines
        assert all("2 networks with torch" in line for line in said)


def test_a_figure_from_two_measurements() -> None:
    first = Measurement(10.0, 0.2, 15, anchor_ms=4.0, unstable="busy")
    second = Measurement(10.5, 0.3, 15, anchor_ms=4.0, unstable="busy")
    one = measuring.pooled([first, second])
    assert one == Measurement(10.25, 0.25, 30, 4.0, pytest.approx(1 - 10 / 10.5), "busy")
    alike = measuring.pooled([first, first])
    assert (alike.spread_ms, alike.repeatability) == (pytest.approx(0.2 / 2**0.5), 0.0)


def test_anchors_are_real_networks_of_different_sizes() -> None:
    """The real ones are those of the import; while a test runs, the module has smaller ones."""
    assert measuring.ANCHORS != ANCHORS
    madds = [cost(arch).madds for arch in ANCHORS]
    assert len(set(madds)) == len(madds) >= 3
    assert min(madds) > 50e6
    assert max(madds) > 4 * min(madds)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_anchors_run(runtime: str) -> None:
    adapter = get_runtime(runtime)
    with adapter.threads(1):
        runs = anchor_inferences(adapter, 1)
        assert [tuple(run().shape) for run in runs] == [(1, 1000)] * 3  # type: ignore[attr-defined]
