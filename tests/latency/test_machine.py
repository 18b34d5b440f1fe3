"""One measurement at a time on this machine, on no more threads than it has cores."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mnas.errors import BadInput
from mnas.latency import machine
from mnas.latency.conditions import Conditions
from mnas.latency.machine import Patience, check_threads, exclusive, measuring
from mnas.latency.measure import measure, measure_networks
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.build import build_table
from mnas.latency.table.cache import table_for
from mnas.latency.timing.quiet import usable_cores
from mnas.latency.timing.rounds import RoundLimits
from mnas.space import zoo
from mnas.space.space import load_space

ARCH = zoo.get("mobilenet_v3_small", 0.35, 32)
CORES = usable_cores()
TORCH = Conditions("torch")

MEASUREMENTS: dict[str, Callable[[], object]] = {
    "inferences": lambda: measure({"run": lambda: None}, RoundLimits(1), rng=random.Random(0)),
    "networks": lambda: measure_networks([ARCH], TORCH, RoundLimits(1), num_classes=10, rng=random.Random(0)),
    "layers": lambda: build_table(ARCH.layers(10)[:1], TORCH, rng=random.Random(0), rounds=1),
}


@pytest.fixture(autouse=True)
def own_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", MEASUREMENTS)
def test_every_measurement_waits_for_another_one(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.INFO, "mnas"):
        with exclusive():
            measuring_there = pool.submit(MEASUREMENTS[kind])
            time.sleep(0.3)
            assert not measuring_there.done()
        measuring_there.result(timeout=60)
    assert caplog.text.count("waiting for another process") == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no system call for it")
def test_only_cores_that_the_process_may_use_count() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        check_threads(1)
        with pytest.raises(BadInput, match=r"--threads 2: .* 1 core"):
            check_threads(2)
    finally:
        os.sched_setaffinity(0, allowed)


def test_another_process_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    code = (
        "import sys\nfrom mnas.latency.machine import exclusive\n"
        "with exclusive():\n    print('inside', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == b"inside\n"
        with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.INFO, "mnas"):
            here = pool.submit(MEASUREMENTS["inferences"])
            time.sleep(0.3)
            assert not here.done()
            other.stdin.close()  # it ends
            here.result(timeout=60)
    assert caplog.text.count("waiting for another process") == 1


def test_who_measures_may_measure_inside(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mnas"), exclusive(), measuring(get_runtime("torch"), 1):
        MEASUREMENTS["inferences"]()
    assert "waiting" not in caplog.text


def test_the_lock_is_free_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), exclusive(), exclusive():
        1 / 0  # noqa: B018
    with ThreadPoolExecutor(1) as pool:
        pool.submit(MEASUREMENTS["inferences"]).result(timeout=60)


def test_a_cache_that_cannot_be_written_makes_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with exclusive(), ThreadPoolExecutor(1) as pool:
        pool.submit(MEASUREMENTS["inferences"]).result(timeout=60)


def test_no_more_threads_than_cores(tiny: Path) -> None:
    check_threads(CORES)
    before = torch.get_num_threads()
    many = Conditions("torch", CORES + 1)
    for attempt in (
        lambda: measure({}, threads=many.threads, rng=random.Random(0)),
        lambda: measure_networks([ARCH], many, rng=random.Random(0)),
        lambda: build_table([], many, rng=random.Random(0)),
        lambda: table_for(load_space(str(tiny)), 10, many),
    ):
        with pytest.raises(BadInput, match=rf"--threads {CORES + 1}: .* {CORES} core"):
            attempt()
    assert torch.get_num_threads() == before


# --- at rest ----------------------------------------------------------------------------------------------------


def looks(monkeypatch: pytest.MonkeyPatch, *used: float) -> list[float]:
    """Other processes use so many cores of two, one figure a look; the looks that are left."""
    left = list(used)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "LOOK_S", 0.0)
    monkeypatch.setattr(machine.Watch, "others", lambda watch: (left.pop(0), 0.5))
    return left


def test_waits_until_cores_are_idle(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mnas"):
        left = looks(monkeypatch, 1.9, 1.3, 1.1, 9.0)
        Patience(60).await_rest(1)
        assert left == [9.0], "one core is idle enough"
        assert caplog.text.count("waiting for") == 1
        caplog.clear()
        left = looks(monkeypatch, 1.1, 0.1, 9.0)
        Patience(60).await_rest(2)
        assert left == [9.0], "two threads need both"
        left = looks(monkeypatch, 0.2, 9.0)
        caplog.clear()
        Patience(60).await_rest(1)
        assert (left, caplog.text) == ([9.0], "")


def test_waits_no_longer_than_it_may_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    left, patience = looks(monkeypatch, 2.0, 2.0, 0.0, 2.0, 2.0, 2.0, 2.0), Patience(1.5)
    patience.await_rest(1)
    assert (len(left), patience.left_s) == (4, 0.5), "what it waited is spent"
    patience.await_rest(1)
    patience.await_rest(1)
    assert (len(left), patience.left_s) == (3, 0.0), "a machine that stays busy is waited for once"


@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads Linux's /proc")
def test_waits_for_real_processes() -> None:
    busy = "import time; end = time.time() + 2.5\nwhile time.time() < end: pass"
    began = time.monotonic()
    others = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(os.cpu_count() or 1)]
    time.sleep(0.3)
    Patience(60).await_rest(1)
    waited_s = time.monotonic() - began
    for process in others:
        process.wait()
    assert waited_s > 1.5
