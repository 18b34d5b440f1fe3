"""What several test files need: a small space, a cache of their own, the `mnas` command."""

import dataclasses
import fcntl
import logging
import math
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Done, Mnas
from small_search import QUICK, TINY_SPACE, guess, milliseconds, no_pictures

from mnas import ImageData, Result, load_data
from mnas import search as run_search
from mnas.cli.app import main
from mnas.data.splits import limited
from mnas.space import zoo

# torch writes a structured trace of each export to whoever listens, as pytest does: ten times the export's time
logging.getLogger("torch.__trace").disabled = True


LONGEST = ("test_distributed.py", "test_runtimes.py", "test_resume.py", "test_kills.py", "test_dense.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process of `pytest -n` is left with one in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test marked `alone` while the other processes of `pytest -n` run none."""
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """A lock on this folder, shared by tests of several processes but for those alone; this file is its queue."""
    with open(__file__) as queue, opened(Path(__file__).parent) as room:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Latency tables of tests never meet the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start
        patch.setenv("HF_HUB_OFFLINE", "1")  # nor does a test ask the internet for weights
        yield folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from more, and lose much beside other work."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def quick_calibration() -> Iterator[None]:
    """Few networks and rounds beside small anchors: a table made in a test is for its tests alone."""
    small = tuple(zoo.get("mobilenet_v3_small", width, 32) for width in (0.35, 0.5, 0.75))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnas.latency.measure.ANCHORS", small)
        patch.setattr("mnas.latency.table.calibrate.FITTED", 12)
        patch.setattr("mnas.latency.table.calibrate.HELD_OUT", 6)
        patch.setattr("mnas.latency.table.calibrate.ROUNDS", 10)
        patch.setattr("mnas.latency.table.cache.INEXACT", math.inf)
        patch.setattr("mnas.latency.machine._patience.left_s", 0.0)  # the other processes are tests
        yield


@pytest.fixture(autouse=True, scope="session")
def quick_plan() -> Iterator[None]:
    """How fast the machine trains is measured in two short epochs, and curves are drawn of few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnas.training.speed.MEASURED_S", 0.0)
        patch.setattr("mnas.training.full.DRAWN_IMAGES", 64)
        patch.setattr("mnas.training.full.DRAWN_STATISTICS_IMAGES", 64)
        yield


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The file of a space of 2880 small networks."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture
def without_pictures() -> Iterator[None]:
    with no_pictures():
        yield


@pytest.fixture
def search(whole_search: Callable[..., Result], without_pictures: None) -> Callable[..., Result]:
    """A small search without pictures."""
    return whole_search


@pytest.fixture
def whole_search(tiny: Path, tmp_path: Path) -> Callable[..., Result]:
    """A small search: names, paths and callables of `mnas.search` in place of its own."""

    def run(**options: Any) -> Result:
        given: dict[str, Any] = {
            "space": tiny, "latency_ms": 0.6, "trials": 4, "run": tmp_path / "run", "estimator": guess,
            "latency": milliseconds, "set": {**QUICK, "recipe.epochs": 1}, "baseline": ["mobilenet_v3_small@0.5"],
        }  # fmt: skip
        return run_search(**(given | options))

    return run


@pytest.fixture(scope="session")
def few() -> ImageData:
    digits = load_data("digits")
    return dataclasses.replace(digits, train=limited(digits.train, 320, 0), val=limited(digits.val, 100, 0))


@pytest.fixture
def mnas(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mnas:
    """Run the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["mnas", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run
