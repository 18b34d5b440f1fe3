"""Batches: the same whether streamed, streamed by workers, or cached."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_data import write_classes
from PIL import Image

from mnas.data.images import BrokenImages
from mnas.data.loader import batches, cached, default_workers, on_device
from mnas.data.splits import ArraySplit, FolderSplit, Split
from mnas.errors import BadInput

CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, torch.Tensor]


def folder(tmp_path: Path, count: int = 23, broken: tuple[int, ...] = (), limit: int = 100) -> FolderSplit:
    """Image i is of the one grey value 10 * i and has the label i."""
    paths = []
    for i in range(count):
        paths.append(str(tmp_path / f"{i:02}.png"))
        if i in broken:
            Path(paths[-1]).write_text("no image")
        else:
            Image.new("L", (9, 7), 10 * i).save(paths[-1])
    return FolderSplit(paths, np.arange(count), BrokenImages(limit))


def array(count: int = 23) -> ArraySplit:
    return ArraySplit(np.arange(count, dtype=np.uint8).repeat(16).reshape(-1, 4, 4), np.arange(count))


def shuffled(split: Split, size: int = 4, workers: int = 0, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return list(batches(split, batch_size=size, size=5, device=CPU, generator=generator, workers=workers))


def in_order(split: Split, workers: int = 0) -> list[Batch]:
    return list(batches(split, batch_size=4, size=5, device=CPU, workers=workers))


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        x.equal(u) and y.equal(v) for (x, y), (u, v) in zip(first, second, strict=True)
    )


def labels(found: list[Batch]) -> list[int]:
    return [label for _, y in found for label in y.tolist()]


def test_streaming_workers_and_cache_agree(tmp_path: Path) -> None:
    split = folder(tmp_path)
    memory = cached(split, 5)
    assert isinstance(memory, ArraySplit)
    assert memory.labels.tolist() == split.labels.tolist()
    for read in (in_order, shuffled):
        plain = read(split)
        assert equal(plain, read(split, workers=2)) and equal(plain, read(memory))
        for x, y in plain:
            assert x.dtype == torch.uint8 and x.shape[1:] == (3, 5, 5) and y.dtype == torch.int64
            assert (x == (10 * y % 256).view(-1, 1, 1, 1)).all()


def test_in_order_is_complete() -> None:
    found = in_order(array())
    assert labels(found) == list(range(23)) and len(found[-1][1]) == 3


def test_shuffled_drops_the_partial_batch() -> None:
    found = shuffled(array())
    assert [len(y) for _, y in found] == [4] * 5
    assert len(set(labels(found))) == 20
    assert labels(found) == labels(shuffled(array())) != labels(shuffled(array(), seed=1))


def test_shuffled_keeps_an_only_partial_batch() -> None:
    assert sorted(labels(shuffled(array(3)))) == [0, 1, 2]
    assert [len(y) for _, y in shuffled(array(4))] == [4]


def test_one_generator_gives_other_orders_each_epoch() -> None:
    generator = torch.Generator().manual_seed(0)
    epochs = [labels(list(batches(array(), batch_size=4, size=4, device=CPU, generator=generator))) for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_global_randomness_is_left_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    shuffled(folder(tmp_path, 8), workers=2)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_skipped_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    split = folder(tmp_path, 12, broken=(2, 4, 5, 6, 7))
    with caplog.at_level(logging.WARNING, "mnas.data"):
        found = in_order(split, workers)
        assert labels(found) == [0, 1, 3, 8, 9, 10, 11]
        assert all((x == (10 * y).view(-1, 1, 1, 1)).all() for x, y in found)
        memory = cached(split, 5)
    assert len(caplog.records) == 5 and str(tmp_path / "02.png") in caplog.text
    assert memory.labels.tolist() == labels(found)
    assert labels(in_order(memory)) == labels(found)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_a_dead_worker_costs_no_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split, found = folder(tmp_path), []
    for batch in batches(split, batch_size=1, size=5, device=CPU, workers=2):
        found.append(batch)
        if len(found) == 3:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            time.sleep(0.5)  # until the pool has noticed
    assert labels(found) == list(range(23))
    assert sum("has died" in record.message for record in caplog.records) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_no_worker_outlives_its_batches(tmp_path: Path) -> None:
    reading = batches(folder(tmp_path), batch_size=1, size=5, device=CPU, workers=2)
    next(reading)
    assert len(multiprocessing.active_children()) == 2
    reading.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("how", ["stream", "workers", "cached"])
def test_too_many_broken_images(tmp_path: Path, how: str) -> None:
    split = folder(tmp_path, 12, broken=(2, 4, 5, 6, 7), limit=4)

    def read() -> Iterator[Batch] | Split:
        return cached(split, 5) if how == "cached" else iter(in_order(split, 2 if how == "workers" else 0))

    with pytest.raises(BadInput, match=r"^5 .* 4: .*02\.png, .*04\.png, .*05\.png, \.\.\."):
        read()


def test_cache_of_nothing_but_broken_images(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r" 3 .*00\.png"):
        cached(folder(tmp_path, 3, broken=(0, 1, 2)), 5)


def test_images_in_memory_are_not_decoded_again() -> None:
    memory = array()
    assert cached(memory, 5) is memory


def test_images_on_a_device_are_those_that_fetch_gives() -> None:
    """The way of CUDA, here on the CPU: grey images, rows of a larger array, in more than one step."""
    split = array(3000).subset(np.arange(2999, 500, -1))
    count = 3 * 4 * 4 * len(split)
    assert on_device(split, CPU, 4 * count - 1) is None
    images = on_device(split, CPU, 4 * count)
    assert images is not None and images.equal(split.fetch(np.arange(len(split)), 4))
    assert on_device(split, CPU, 0) is images
    assert on_device(split.subset(np.array([1])), CPU, 0) is None


def test_a_reader_may_stop_early(tmp_path: Path) -> None:
    found = batches(folder(tmp_path), batch_size=2, size=5, device=CPU, workers=2)
    next(found)
    found.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_main_guard_is_run_once(method: str, tmp_path: Path) -> None:
    """Where processes are not forked by default, their workers would import the script again."""
    write_classes(tmp_path / "photos", 8, "a", "b")
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing, torch
multiprocessing.set_start_method({method!r}, force=True)
print("began")
from mnas.data.loader import batches
from mnas.data.sources import load_data
split = load_data("photos").train
print(sum(len(labels) for _, labels in batches(split, batch_size=2, size=8, device=torch.device("cpu"), workers=2)))
""")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["began", "10"], done.stderr


def test_default_workers() -> None:
    assert 1 <= default_workers() <= 8
