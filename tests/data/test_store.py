"""Decoded images on disk: made once, whole or not at all, bounded, and never in anonymous memory."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.context import ForkProcess
from pathlib import Path

import filelock
import numpy as np
import pytest
from damage import KINDS, damage
from PIL import Image

from mnas.data.images import BrokenImages
from mnas.data.loader import cached
from mnas.data.splits import ArraySplit, FolderSplit, Split
from mnas.data.store import images_folder
from mnas.errors import BadInput

SIZE = 20
ENTRY_BYTES = 4 * SIZE * SIZE * 3 + 1000  # of 4 images, with room for what is written beside them


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    """The image cache of this test alone; what is logged is captured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO, "mnas.data"):
        yield tmp_path / "cache" / "mnas" / "images"


def files(home: Path, count: int = 4, broken: tuple[int, ...] = (), limit: int = 100, first: int = 0) -> FolderSplit:
    """Image i is of the one grey value 10 * (first + i) and has the label i."""
    home.mkdir(exist_ok=True)
    paths = [str(home / f"{i}.png") for i in range(count)]
    for i, path in enumerate(paths):
        if i in broken:
            Path(path).write_text("no image")
        else:
            Image.new("L", (9, 7), 10 * (first + i)).save(path)
    return FolderSplit(paths, np.arange(count), BrokenImages(limit))


def again(split: FolderSplit, limit: int = 100) -> FolderSplit:
    """The same files, as another run opens them."""
    return FolderSplit(split.paths, split.labels, BrokenImages(limit))


def greys(split: Split) -> list[int]:
    return split.fetch(np.arange(len(split)), SIZE)[:, 0, 0, 0].tolist()


def decodings(caplog: pytest.LogCaptureFixture) -> int:
    return sum("decoding" in record.getMessage() for record in caplog.records)


def entries(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if path.name != ".lock"}


def test_decoded_once_into_a_named_folder(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = files(tmp_path / "a")
    first, second = cached(split, SIZE), cached(again(split), SIZE)
    assert isinstance(first, ArraySplit) and isinstance(first.images, np.memmap)
    assert first.images.dtype == np.uint8 and first.images.shape == (4, SIZE, SIZE, 3)
    assert greys(first) == greys(second) == [0, 10, 20, 30]
    assert decodings(caplog) == 1 and len(caplog.messages) == 2
    assert folder == images_folder() and all(str(folder) in message for message in caplog.messages)
    (entry,) = entries(folder)
    assert {path.name for path in entry.iterdir()} == {"pixels", "about.json"}
    assert str(tmp_path / "a") in (entry / "about.json").read_text()


def test_what_differs_is_decoded_anew(tmp_path: Path, folder: Path) -> None:
    split = files(tmp_path / "a")
    path = Path(split.paths[0])
    cached(split, SIZE)
    cached(split, SIZE + 1)
    cached(split.subset(np.array([1, 0, 2, 3])), SIZE)
    assert len(entries(folder)) == 3
    then, content = path.stat(), path.read_bytes()
    Image.new("L", (9, 7), 200).save(path)
    path.write_bytes(path.read_bytes()[: len(content)].ljust(len(content)))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))  # as `cp -p` does
    assert greys(cached(again(split), SIZE)) == [200, 10, 20, 30]
    assert greys(cached(again(split).subset(np.array([1, 0])), SIZE)) == [10, 200]


def test_broken_images_stay_out_and_are_named_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = files(tmp_path / "a", 6, broken=(1, 4))
    first = cached(split, SIZE)
    later = again(split, limit=2)
    second = cached(later, SIZE)
    assert decodings(caplog) == 1
    assert first.labels.tolist() == second.labels.tolist() == [0, 2, 3, 5]
    assert greys(first) == greys(second) == [0, 20, 30, 50]
    assert greys(second.subset(np.array([3, 1]))) == [50, 20]
    assert later.broken.reasons == split.broken.reasons
    assert set(later.broken.reasons) == {split.paths[1], split.paths[4]}
    with pytest.raises(BadInput, match=r"^2 .* 1: .*1\.png, .*4\.png"):
        cached(again(split, limit=1), SIZE)


def test_a_missing_file_is_a_broken_image(tmp_path: Path) -> None:
    split = files(tmp_path / "a")
    Path(split.paths[2]).unlink()
    assert cached(split, SIZE).labels.tolist() == [0, 1, 3]
    assert list(split.broken.reasons) == [split.paths[2]]


@pytest.mark.parametrize(("broken", "limit"), [((0, 1), 1), ((0, 1, 2, 3), 100)])
def test_what_is_refused_is_not_kept(tmp_path: Path, folder: Path, broken: tuple[int, ...], limit: int) -> None:
    with pytest.raises(BadInput):
        cached(files(tmp_path / "a", broken=broken, limit=limit), SIZE)
    assert not entries(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["pixels", "about.json"])
def test_a_damaged_entry_is_made_anew(
    tmp_path: Path, folder: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    split = files(tmp_path / "a", broken=(2,))
    cached(split, SIZE)
    (entry,) = entries(folder)
    damage(entry / name, kind)
    assert greys(cached(again(split), SIZE)) == [0, 10, 30]
    said = any(str(entry) in one and "damaged" in one for one in caplog.messages)
    assert said or (name, kind) == ("about.json", "last byte lost"), "of the line with the checksum"
    assert entries(folder) == {entry} and (entry / "pixels").stat().st_size == 4 * SIZE * SIZE * 3


def test_the_least_recently_used_goes_first(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    splits = [files(tmp_path / str(i), first=4 * i) for i in range(3)]
    for split in (splits[0], splits[1], splits[0], splits[2]):
        time.sleep(0.02)  # a file system may tell times in steps of 10 ms
        cached(again(split), SIZE, limit_bytes=2 * ENTRY_BYTES)
    assert len(entries(folder)) == 2 and decodings(caplog) == 3
    cached(again(splits[0]), SIZE, limit_bytes=2 * ENTRY_BYTES)
    assert decodings(caplog) == 3
    cached(again(splits[1]), SIZE, limit_bytes=2 * ENTRY_BYTES)
    assert decodings(caplog) == 4


def test_what_is_in_use_is_not_removed(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = cached(files(tmp_path / "train"), SIZE, limit_bytes=ENTRY_BYTES)
    val = files(tmp_path / "val", first=10)
    kept = entries(folder)
    assert isinstance(train, ArraySplit) and cached(val, SIZE, limit_bytes=ENTRY_BYTES) is val
    assert entries(folder) == kept and caplog.records[-1].levelname == "WARNING"
    part = train.subset(np.array([3]))
    del train
    assert cached(val, SIZE, limit_bytes=ENTRY_BYTES) is val  # a part of it is in use
    assert greys(part) == [30]
    del part
    assert greys(cached(val, SIZE, limit_bytes=ENTRY_BYTES)) == [100, 110, 120, 130]
    assert not entries(folder) & kept


def test_nothing_is_removed_for_an_entry_that_is_too_large(tmp_path: Path, folder: Path) -> None:
    cached(files(tmp_path / "a"), SIZE)
    kept = entries(folder)
    large = files(tmp_path / "b", 40)
    assert cached(large, SIZE, limit_bytes=2 * ENTRY_BYTES) is large
    assert entries(folder) == kept


def test_a_part_of_the_free_disk_at_most(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    split = files(tmp_path / "a")
    monkeypatch.setattr("mnas.data.store.PART_OF_DISK", 0.0)
    assert cached(split, SIZE) is split
    assert [record.levelname for record in caplog.records] == ["WARNING"] and not entries(folder)
    assert str(folder) in caplog.text


def test_a_cache_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    split = files(tmp_path / "a")
    assert cached(split, SIZE) is split
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "XDG_CACHE_HOME" in record.getMessage()


def test_a_disk_that_takes_no_more(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The system refuses to let the file grow, as a full disk does; what was begun is removed."""
    split = files(tmp_path / "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        assert cached(split, SIZE) is split
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not entries(folder) and "XDG_CACHE_HOME" in caplog.text
    assert cached(split, SIZE) is not split


def test_an_empty_split_is_left_alone(tmp_path: Path) -> None:
    split = files(tmp_path / "a").subset(np.array([], dtype=np.int64))
    assert cached(split, SIZE) is split


FORK = multiprocessing.get_context("fork")  # torch is imported already


def decode_there(paths: Sequence[str], log_path: Path) -> None:
    """Open a split of these files, as another process does; writes its log and a sum of pixels to `log_path`."""
    logging.getLogger("mnas.data").addHandler(logging.FileHandler(log_path))
    split = cached(FolderSplit(paths, np.arange(len(paths)), BrokenImages(0)), SIZE)
    with log_path.open("a") as file:
        file.write(f"sum {int(split.fetch([0, -1], SIZE).numpy().sum())}\n")


@contextmanager
def other_process(paths: Sequence[str], log_path: Path) -> Iterator[ForkProcess]:
    process = FORK.Process(target=decode_there, args=(paths, log_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_two_processes_at_once(tmp_path: Path, folder: Path) -> None:
    """Both find no entry and wait for the lock; the second finds the entry that the first makes."""
    paths = files(tmp_path / "a").paths
    folder.mkdir(parents=True)
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    with ExitStack() as stack:
        with filelock.FileLock(folder / ".lock"):
            both = [stack.enter_context(other_process(paths, log)) for log in logs]
            wait_for(lambda: all(log.exists() and "waiting" in log.read_text() for log in logs))
        for process in both:
            process.join(30)
        assert [process.exitcode for process in both] == [0, 0]
    texts = [log.read_text() for log in logs]
    assert all(text.endswith(f"\nsum {30 * SIZE * SIZE * 3}\n") for text in texts)
    assert sum(text.count(": decoding") for text in texts) == 1 and len(entries(folder)) == 1


def test_a_killed_decode_leaves_nothing_half_read(tmp_path: Path, folder: Path) -> None:
    paths = files(tmp_path / "a").paths
    with other_process([*paths] * 20_000, tmp_path / "log"):
        wait_for(lambda: bool(list(folder.glob("*.part/pixels"))))
    assert [path.suffix for path in entries(folder)] == [".part"]
    many = FolderSplit(list(paths) * 3, np.arange(12), BrokenImages(0))
    assert greys(cached(many, SIZE)) == [0, 10, 20, 30] * 3
    assert len(entries(folder)) == 1 and not list(folder.glob("*.part"))


MEMORY = """
import sys, threading, time
import numpy as np
import torch
from PIL import Image
from mnas.data.images import BrokenImages
from mnas.data.loader import batches, cached
from mnas.data.splits import FolderSplit

def anonymous_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

def use(count):
    split = cached(FolderSplit([sys.argv[1]] * count, np.zeros(count, int), BrokenImages(0)), 128)
    draw = torch.Generator().manual_seed(0)
    for images, _ in batches(split, batch_size=64, size=128, device=torch.device("cpu"), generator=draw):
        images[:, :, 0, 0].sum()

torch.set_num_threads(1)
use(200)  # what every use costs once
before, peak, done = anonymous_mb(), [0.0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], anonymous_mb())

watcher = threading.Thread(target=watch)
watcher.start()
use(2000)
done.set()
watcher.join()
print(peak[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's anonymous memory")
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """2,000 images of 128 px are 98 MB of pixels; decoding and reading them takes a few batches' worth."""
    Image.new("RGB", (128, 128), (1, 2, 3)).save(tmp_path / "one.png")
    found = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "one.png")], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) < 25
