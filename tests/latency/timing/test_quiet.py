from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mnas.latency.timing import quiet
from mnas.latency.timing.quiet import Watch, pinned

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no system call for it")
needs_proc = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat")

BUSY = "while True: pass"


# --- pinned -----------------------------------------------------------------------------------------------------


@needs_affinity
@pytest.mark.parametrize("threads", range(1, 4))
def test_pinned_to_as_many_cores_as_threads(threads: int) -> None:
    before = os.sched_getaffinity(0)
    with pinned(threads):
        inside = os.sched_getaffinity(0)
        assert len(inside) == min(threads, len(before))
        assert inside <= before
        started: list[set[int]] = []
        worker = threading.Thread(target=lambda: started.append(os.sched_getaffinity(0)))
        worker.start()
        worker.join()
        assert started == [inside]
        with pinned(1):
            assert len(os.sched_getaffinity(0)) == 1
            assert os.sched_getaffinity(0) <= inside
        assert os.sched_getaffinity(0) == inside
    assert os.sched_getaffinity(0) == before


@needs_affinity
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_cores_are_given_back_after_an_exception(error: type[BaseException]) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(error), pinned(1):
        raise error
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_the_fastest_core_is_chosen_and_of_these_the_idlest(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core leaves no choice")
    first, second = cores[:2]
    for fast in (first, second):
        monkeypatch.setattr(quiet, "_top_clock", lambda core, fast=fast: 3_000_000 if core == fast else 1_000_000)
        with pinned(1):
            assert os.sched_getaffinity(0) == {fast}
    monkeypatch.setattr(quiet, "_top_clock", lambda core: 0)
    for idle in (first, second):
        passed = iter([dict.fromkeys(cores, 100), {core: 105 if core == idle else 101 for core in cores}])
        monkeypatch.setattr(quiet, "_idle_ticks", lambda passed=passed: next(passed))
        with pinned(1):
            assert os.sched_getaffinity(0) == {idle}


@pytest.mark.parametrize(("listed", "expected"), [
    (["0,4", "1,5", "2,6", "3,7"] * 2, [{7}, {7, 6}, {7, 6, 5}, {7, 6, 5, 4}, {7, 6, 5, 4, 3}]),
    (["0-1", "0-1", "2-3", "2-3", "4-5,8-9", "4-5,8-9", "6\n", "7\n"],
     [{7}, {7, 6}, {7, 6, 5}, {7, 6, 5, 3}, {7, 6, 5, 3, 1}, {7, 6, 5, 3, 1, 4}]),
    ([None] * 8, [{7}, {7, 6}, {7, 6, 5}]),
    (["", "nonsense", "0-", *[None] * 5], [{7}, {7, 6}]),
])  # fmt: skip
def test_second_hyperthreads_come_last(
    listed: list[str | None], expected: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str) -> io.StringIO:
        text = listed[int(path.split("/")[5].removeprefix("cpu"))] if "thread_siblings" in path else None
        if text is None:
            raise FileNotFoundError(path)
        return io.StringIO(text)

    held: list[set[int]] = []
    monkeypatch.setattr(quiet, "open", read, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: held.append(cores), raising=False)
    for threads in range(1, len(expected) + 1):
        with pinned(threads):
            pass
    assert held[::2] == expected


def test_without_the_system_call_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    ran = False
    with pinned(1):
        ran = True
    assert ran


# --- disturbed --------------------------------------------------------------------------------------------------


@pytest.mark.alone
@needs_proc
def test_a_busy_process_is_seen() -> None:
    watch = Watch()
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        time.sleep(0.8)
        why = watch.disturbed([])
        process.kill()
    assert why.startswith("busy machine: other processes used ")
    assert float(why.split()[-2]) >= 0.3


@pytest.mark.alone
@needs_proc
def test_own_work_is_no_disturbance() -> None:
    """A machine that rests is not to be had in a test, so that only the difference is looked at."""

    def others(work: bool) -> float:
        (wall, busy, own), end = Watch._now(), time.perf_counter() + 0.3
        while work and time.perf_counter() < end:
            pass
        time.sleep(max(0.0, end - time.perf_counter()))
        after = Watch._now()
        return (after[1] - busy - (after[2] - own)) / (after[0] - wall)

    tries = [others(True) - others(False) for _ in range(3)]
    assert min(tries) < 0.25


WATCHED = {
    "rest": (2.0, 1.9, 1.8, ""),
    "others": (2.0, 3.6, 1.8, "busy machine: other processes used 0.9 cores"),
    "a little": (2.0, 2.3, 1.8, ""),
    "own threads": (2.0, 8.0, 8.0, ""),
    "too short to tell": (0.4, 0.4, 0.0, ""),
    "ticks are coarse": (2.0, 1.7, 1.8, ""),
}


@pytest.mark.parametrize("case", WATCHED)
def test_what_is_called_busy(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wall, busy, own, expected = WATCHED[case]
    times = iter([(10.0, 500.0, 5.0), (10.0 + wall, 500.0 + busy, 5.0 + own)])
    monkeypatch.setattr(Watch, "_now", staticmethod(lambda: next(times)))
    assert Watch().disturbed([1.0] * 20) == expected


@pytest.mark.parametrize(("anchor", "expected"), [
    ([], ""),
    ([1.0] * 40, ""),
    ([1.0, 9.0] * 2, ""),  # too few
    ([1 + 0.07 * i / 39 for i in range(40)], ""),
    ([1 + 0.3 * i / 39 for i in range(40)], "22% slower"),
    ([1.0] * 20 + [1.25] * 20, "25% slower"),
    ([2.0] * 20 + [1.0] * 20, "50% faster"),
    ([1.0] * 10 + [5.0] * 20 + [1.0] * 10, ""),  # over again at the end
    ([1.0] * 36 + [9.0] * 4, ""),  # a moment only
])  # fmt: skip
def test_what_is_called_throttling(anchor: list[float], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "_now", staticmethod(lambda: (0.0, 0.0, 0.0)))
    reason = Watch().disturbed(anchor)
    assert expected in reason and bool(reason) == bool(expected)


def test_both_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(0.0, 0.0, 0.0), (1.0, 2.0, 1.0)])
    monkeypatch.setattr(Watch, "_now", staticmethod(lambda: next(times)))
    why = Watch().disturbed([1.0] * 20 + [1.25] * 20)
    assert "1.0 cores" in why and "25% slower" in why


def test_without_proc_nothing_is_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "_stat", lambda start: [])
    assert quiet._busy_s() == 0.0
    assert quiet._idle_ticks() == {}
    assert Watch().disturbed([1.0] * 20) == ""
