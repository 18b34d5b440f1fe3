"""Batches of a split: indexed from an array, or decoded from files by worker processes."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import torch
from numpy.typing import NDArray

from mnas.data.splits import ArraySplit, Decoded, FolderSplit, Split, decode_files
from mnas.data.store import stored
from mnas.io.size import Size, sides

log = logging.getLogger("mnas.data")

CHUNK = 1024  # images copied to a device at a time
AHEAD = 2  # batches that each worker may be ahead of the training


def default_workers() -> int:
    """The number of worker processes: one for each CPU that this process may use, at most 8."""
    return min(8, _cpus())


def batches(
    split: Split,
    *,
    batch_size: int,
    size: Size,
    device: torch.device,
    generator: torch.Generator | None = None,
    order: NDArray[np.int64] | None = None,
    workers: int | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images uint8 (b, 3, h, w) and labels int64 (b,) on `device`; image files are decoded at `size`.

    With a generator, images are shuffled and the last partial batch is dropped unless it is the only one. Without, the
    batches have the rows of `order`, or all rows, in order.
    Image files are decoded by `workers` processes, by default one for each CPU; in this process for 0, and where
    processes cannot be forked safely (macOS, Windows). Broken images are left out with their labels, so a batch may be
    smaller. Raises BadInput past their limit.
    """
    rows_of_batches = batch_rows(len(split), batch_size, generator, order)
    if isinstance(split, FolderSplit):
        yield from _streamed(split, rows_of_batches, size, device, default_workers() if workers is None else workers)
        return
    labels = torch.from_numpy(split.labels.copy())
    pixels = None
    if device.type == "cuda" and isinstance(split, ArraySplit):
        pixels = on_device(split, device, torch.cuda.mem_get_info(device)[0], size)
    for batch in rows_of_batches:
        rows = torch.from_numpy(batch)
        images = split.fetch(batch, size).to(device) if pixels is None else pixels[rows.to(device)]
        yield images, labels[rows].to(device)


def batch_rows(
    images: int, batch_size: int, generator: torch.Generator | None, order: NDArray[np.int64] | None
) -> list[NDArray[np.int64]]:
    """The rows of each batch: shuffled whole batches (or the only one) with a generator, else `order`, or all rows."""
    if generator is not None:
        order = torch.randperm(images, generator=generator).numpy()
        if len(order) > batch_size:
            order = order[: len(order) // batch_size * batch_size]
    elif order is None:
        order = np.arange(images)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def cached(split: Split, size: Size, limit_bytes: int = 40 * 2**30) -> Split:
    """`split` decoded once at `size` into the user's cache, which holds at most `limit_bytes`.

    Returns `split` itself where it is in memory or the cache has no room. Broken images are left out with their labels.
    Raises BadInput past their limit, or where no image is left.
    """
    if not isinstance(split, FolderSplit) or not len(split):
        return split
    decoded = stored(split, size, limit_bytes=limit_bytes, threads=default_workers())
    return split if decoded is None else decoded


def on_device(split: ArraySplit, device: torch.device, free_bytes: int, size: Size = 1) -> torch.Tensor | None:
    """All images of `split` in the shape of `size` on `device`, uint8 (n, 3, h, w), copied once.

    None where they are over a quarter of `free_bytes`.
    """
    height, width = sides(size)
    key = device, width / height
    if key not in split.resident and len(split):
        shape = (len(split), *split.fetch([0], size).shape[1:])
        if 4 * math.prod(shape) > free_bytes:
            return None
        images = torch.empty(shape, dtype=torch.uint8, device=device)
        for start in range(0, len(split), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(split)))
            images[start : start + CHUNK] = split.fetch(rows, size).to(device)
        split.resident[key] = images
    return split.resident.get(key)


def _streamed(
    split: FolderSplit, batch_rows: list[NDArray[np.int64]], size: Size, device: torch.device, workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches decoded by worker processes, which are forked: others would run the caller's script once more."""
    workers = min(workers, _cpus(), len(batch_rows)) if sys.platform == "linux" else 0
    for decoded in _decoded(split, batch_rows, size, workers):
        for path, reason in decoded.broken:
            split.broken.add(path, reason)
        if len(decoded.indices):
            images = torch.from_numpy(decoded.images).permute(0, 3, 1, 2)
            yield images.to(device), torch.from_numpy(split.labels[decoded.indices]).to(device)


def _decoded(
    split: FolderSplit, batch_rows: list[NDArray[np.int64]], size: Size, workers: int
) -> Iterator[Decoded]:
    """The batches in order; those that workers leave undone, because one of them died, are decoded here."""
    done = 0
    if workers:
        decoding = _by_workers(split, batch_rows, size, workers)
        try:
            for decoded in decoding:
                yield decoded
                done += 1
        except BrokenProcessPool:
            log.warning(
                "a process that decodes images has died (was it killed for want of memory?): the other %d batches are "
                "decoded in this one, more slowly", len(batch_rows) - done,
            )  # fmt: skip
        finally:
            decoding.close()
    for rows in batch_rows[done:]:
        yield decode_files(split.paths, rows, size, split.reading)


def _by_workers(
    split: FolderSplit, batch_rows: list[NDArray[np.int64]], size: Size, workers: int
) -> Generator[Decoded, None, None]:
    """Each batch decoded by a pool of processes, a few batches ahead. Raises BrokenProcessPool where one dies."""
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(os.getpid(),))
    ahead: deque[Future[Decoded]] = deque()
    try:
        for number, rows in enumerate(batch_rows):
            with warnings.catch_warnings():
                # Python 3.12 warns of a fork beside threads; it is safe, as workers run only pillow and numpy.
                warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
                paths = [split.paths[i] for i in rows]
                ahead.append(pool.submit(decode_files, paths, np.arange(len(rows)), size, split.reading))
            if len(ahead) > AHEAD * workers:
                yield _of_rows(ahead.popleft().result(), batch_rows[number - AHEAD * workers])
        for rows in batch_rows[len(batch_rows) - len(ahead) :]:
            yield _of_rows(ahead.popleft().result(), rows)
    finally:
        pool.shutdown(cancel_futures=True)


def _of_rows(decoded: Decoded, rows: NDArray[np.int64]) -> Decoded:
    """A batch whose indices are rows of its split."""
    return decoded._replace(indices=rows[decoded.indices])


def _begin_worker(parent: int) -> None:
    """A worker leaves interruptions to its parent, and ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
