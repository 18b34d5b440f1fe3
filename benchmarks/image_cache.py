"""Decoded images on disk: seconds to decode 20,000 JPEGs once, then images/s of random batches beside plain memory.

    python benchmarks/image_cache.py

Takes about 5 GB in the temporary folder, and 3 GB of memory for the comparison.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import save
from numpy.typing import NDArray
from PIL import Image

from mnas.data.images import BrokenImages
from mnas.data.loader import batches, cached, default_workers
from mnas.data.splits import ArraySplit, FolderSplit

COUNT, DISTINCT, BATCH, ROUNDS = 20_000, 50, 128, 5
LABELS = np.arange(COUNT) % 10


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def write_jpegs(home: Path) -> FolderSplit:
    """Smooth noise in several octaves, which JPEG takes as it takes photographs: about 20 KB each."""
    rng = np.random.default_rng(0)
    contents = []
    for i in range(DISTINCT):
        octaves = [np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((256, 256)), float)
                   for n in (4, 16, 64, 256)]  # fmt: skip
        pixels = np.average(octaves, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(home / f"source{i}.jpg", quality=90)
        contents.append((home / f"source{i}.jpg").read_bytes())
    paths = [str(home / f"{i:05}.jpg") for i in range(COUNT)]
    for i, path in enumerate(paths):
        Path(path).write_bytes(contents[i % DISTINCT])
    return FolderSplit(paths, LABELS, BrokenImages(0))


def images_per_s(split: ArraySplit, seed: int) -> float:
    draw = torch.Generator().manual_seed(seed)
    began, seen = time.perf_counter(), 0
    for images, _ in batches(split, batch_size=BATCH, size=0, device=torch.device("cpu"), generator=draw):
        seen += len(images)
    return seen / (time.perf_counter() - began)


def compared(mapped: ArraySplit, images: NDArray[np.uint8]) -> dict[str, int]:
    """Median images/s of random batches from the mapped file and from an array in memory, in turn."""
    both = {"mapped": mapped, "memory": ArraySplit(images, mapped.labels)}
    found: dict[str, list[float]] = {name: [] for name in both}
    for turn in range(ROUNDS):
        for name, split in both.items():
            found[name].append(images_per_s(split, turn))
    return {name: round(statistics.median(speeds)) for name, speeds in found.items()}


def forget(file: Path) -> None:
    """Drop the file's pages from the kernel's cache, so that the next reads go to the disk."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


with tempfile.TemporaryDirectory() as folder:
    os.environ["XDG_CACHE_HOME"] = folder
    home = Path(folder) / "photographs"
    home.mkdir()
    files = write_jpegs(home)
    figures: dict[str, object] = {
        "images": COUNT, "jpeg_mb": round(sum(os.path.getsize(path) for path in files.paths) / 1e6),
        "threads": default_workers(),
    }  # fmt: skip
    cached(files.subset(np.arange(256)), 64)  # what the first use costs once
    for size in (64, 224):
        before, began = anonymous_mb(), time.perf_counter()
        split = cached(files, size)
        seconds = time.perf_counter() - began
        assert isinstance(split, ArraySplit)
        file = max(Path(folder).glob("mnas/images/*/pixels"), key=lambda path: path.stat().st_mtime_ns)
        row: dict[str, object] = {
            "decode_s": round(seconds, 1), "decoded_per_s": round(COUNT / seconds),
            "disk_mb": round(file.stat().st_size / 1e6),
        }  # fmt: skip
        began = time.perf_counter()
        split = cached(files, size)
        assert isinstance(split, ArraySplit)
        row["open_again_s"] = round(time.perf_counter() - began, 2)
        images_per_s(split, 0)
        row["anonymous_mb_more"] = round(anonymous_mb() - before, 1)
        del split  # pages that are mapped are not dropped
        forget(file)
        split = cached(files, size)
        assert isinstance(split, ArraySplit)
        row["from_the_disk_per_s"] = round(images_per_s(split, 1))
        row["random_batches_per_s"] = compared(split, np.array(split.images))
        figures[f"{size}px"] = row
    save("image_cache", figures)
