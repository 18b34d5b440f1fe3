"""A disk that is full, or may not be written to any more: what was kept stays, the message says why, a resume works."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from .checks import at_the_end, differences
from .disks import empty, fill, small_disk
from .kills import Round
from .processes import Ended, Zygote
from .searches import Search, finished, made_up_table, prepare


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("disk")
    prepare(folder)
    with Zygote(folder) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def unbroken(zygote: Zygote) -> Search:
    """An unbroken search with a given table."""
    search = Search(zygote.folder / "unbroken", made_up_table(zygote.folder / "table.yaml"))
    finished(zygote, search)
    return search


def at(step: str, act: Callable[[], None]) -> Callable[[str, float], Sequence[signal.Signals]]:
    """Acts once, when a command has come to that step."""
    done = list[bool]()

    def watch(text: str, seconds: float) -> Sequence[signal.Signals]:
        if f"#step {step}" in text and not done:
            done.append(True)
            act()
        return ()

    return watch


def check_end(search: Search, zygote: Zygote, unbroken: Search) -> None:
    """The resumed search ends as the unbroken one did."""
    ended = finished(zygote, search)
    last = Round("", signal.SIGKILL, 0.0, ended)
    at_the_end(search, last, unbroken)
    assert last.wrong == []


STEPS = {
    "supernet 2": r"checkpoints/supernet\.pt", "search 0.5": r"study\.db|trials\.jsonl|state\.json|races|checkpoints",
    "train trial 0 4": r"checkpoints/\w+-32px-seed0-",
    "export 0": r"winner",
}  # fmt: skip
"""When the disk is filled, and the files of which one may be the first to find that out."""


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk(step: str, zygote: Zygote, unbroken: Search) -> None:
    with small_disk(zygote.folder / "small") as disk:
        search = Search(disk, unbroken.table)
        ended = zygote.run(search.command(), search.cache, at(step, lambda: fill(disk)))
        check_full(ended, STEPS[step])
        before = search.trials()
        again = zygote.run(search.command(), search.cache)
        check_full(again, "")
        empty(disk)
        assert search.trials()[: len(before)] == before
        check_end(search, zygote, unbroken)
        assert search.trials()[: len(before)] == before


def check_full(ended: Ended, file: str) -> None:
    """Exit code 2 and one line that names a file and what it lacks; nothing else of an error."""
    import re

    assert ended.code == 2, ended.log[-3000:]
    last = ended.lines[-1]
    assert last.startswith("error: "), ended.log[-3000:]
    assert re.search(file, last), last
    assert "free" in last
    assert "Traceback" not in ended.log
    assert "Logging error" not in ended.log


def test_a_table_and_a_cache_on_a_full_disk(zygote: Zygote, unbroken: Search) -> None:
    """Images are decoded again in each epoch where the cache has no room; measured rows of the table are kept."""
    with small_disk(zygote.folder / "small") as disk:
        search = Search(disk)
        ended = zygote.run(search.command(), search.cache, at("latency table 10", lambda: fill(disk)))
        check_full(ended, r"latency/tiny|state\.json")
        rows = search.rows()
        empty(disk)
        finished(zygote, search)
        assert len(rows) >= 10
        assert {row: ms for row, ms in search.rows().items() if row in rows} == rows
        last = Round("", signal.SIGKILL, 0.0, ended)
        at_the_end(search, last, unbroken)
        assert last.wrong == []


def test_no_room_for_decoded_images_and_a_killed_worker(zygote: Zygote, unbroken: Search) -> None:
    """Processes decode the images again for each epoch; where one is killed, no image is lost."""
    with small_disk(zygote.folder / "small", megabytes=1) as disk:
        fill(disk, left=100_000)
        search = Search(zygote.folder / "uncached", unbroken.table)
        killed = list[int]()

        def kill_a_worker(text: str, seconds: float) -> Sequence[signal.Signals]:
            # one that has nothing left to do when it is killed is not missed: the next one is
            missed = "decodes images has died" in text
            workers = children(zygote.pid) if "#step supernet" in text and not missed else []
            for worker in set(workers[:1]) - set(killed):
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
            return ()

        ended = zygote.run(search.command(), disk, kill_a_worker)
        assert ended.code == 0, ended.log[-3000:]
        assert any("has no room" in line or "cannot store" in line for line in ended.lines)
        assert killed
        assert any("decodes images has died" in line for line in ended.lines)
        assert differences(search, unbroken) == []


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def locked(folder: Path) -> None:
    """Take the permission to write into a folder and those in it."""
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        path.chmod(0o555)


def unlocked(folder: Path) -> None:
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        path.chmod(0o755)


def test_the_permission_to_write_is_lost(zygote: Zygote, unbroken: Search) -> None:
    search = Search(zygote.folder / "locked", unbroken.table)
    ended = zygote.run(search.command(), search.cache, at("train trial 0 4", lambda: locked(search.run)))
    try:
        before = search.trials()
        for one in (ended, zygote.run(search.command(), search.cache)):
            assert one.code == 2, one.log[-3000:]
            assert re.search(rf"^error: {search.run}/\S+: Permission denied; ", one.lines[-1]), one.lines[-1]
            assert "Traceback" not in one.log
    finally:
        unlocked(search.run)
    check_end(search, zygote, unbroken)
    assert search.trials()[: len(before)] == before


def test_a_read_only_folder_is_refused_at_once(zygote: Zygote, unbroken: Search) -> None:
    search = Search(zygote.folder / "readonly", unbroken.table)
    search.folder.mkdir()
    search.folder.chmod(0o555)
    ended = zygote.run(search.command(), search.cache)
    search.folder.chmod(0o755)
    assert ended.code == 2, ended.log[-3000:]
    assert re.search(rf"^error: {search.folder}/\S+: Permission denied; ", ended.lines[-1]), ended.lines[-1]
    assert list(search.folder.iterdir()) == []
