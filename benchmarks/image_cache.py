"""The cache of decoded images: decoding 20,000 JPEGs once, then images/s of random batches beside plain memory.

    python benchmarks/image_cache.py

Takes about 5 GB in the temporary folder, and 3 GB of memory for the comparison.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import options_parser, save
from numpy.typing import NDArray
from PIL import Image

from mnas.data.images import BrokenImages
from mnas.data.loader import batches, cached, default_workers
from mnas.data.splits import ArraySplit, FolderSplit

COUNT, DISTINCT, BATCH, ROUNDS = 20_000, 50, 128, 5


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def write_jpegs(folder: Path, count: int) -> FolderSplit:
    """Smooth noise in several octaves, which JPEG compresses about as it does photographs: about 20 KB each."""
    rng = np.random.default_rng(0)
    contents = []
    for i in range(DISTINCT):
        octaves = [np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((256, 256)), float)
                   for n in (4, 16, 64, 256)]  # fmt: skip
        pixels = np.average(octaves, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"source{i}.jpg", quality=90)
        contents.append((folder / f"source{i}.jpg").read_bytes())
    paths = [str(folder / f"{i:05}.jpg") for i in range(count)]
    for i, path in enumerate(paths):
        Path(path).write_bytes(contents[i % DISTINCT])
    return FolderSplit(paths, np.arange(count) % 10, BrokenImages(0))


def images_per_s(split: ArraySplit, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    began, count = time.perf_counter(), 0
    for images, _ in batches(split, batch_size=BATCH, size=0, device=torch.device("cpu"), generator=generator):
        count += len(images)
    return count / (time.perf_counter() - began)


def compare(mapped: ArraySplit, images: NDArray[np.uint8]) -> dict[str, int]:
    """Median images/s of random batches from the mapped file and from an array in memory, in turn."""
    splits = {"mapped": mapped, "memory": ArraySplit(images, mapped.labels)}
    speeds: dict[str, list[float]] = {name: [] for name in splits}
    for seed in range(ROUNDS):
        for name, split in splits.items():
            speeds[name].append(images_per_s(split, seed))
    return {name: round(statistics.median(values)) for name, values in speeds.items()}


def drop_from_page_cache(file: Path) -> None:
    """Make the kernel read the file from the disk again."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def open_cached(files: FolderSplit, size: int) -> ArraySplit:
    split = cached(files, size)
    assert isinstance(split, ArraySplit)
    return split


def cache_figures(files: FolderSplit, size: int, cache: Path) -> dict[str, Any]:
    """Decoding, opening and reading the cache of one image size."""
    before_mb, began = anonymous_mb(), time.perf_counter()
    open_cached(files, size)
    decode_s = time.perf_counter() - began
    file = max(cache.glob("mnas/images/*/pixels"), key=lambda path: path.stat().st_mtime_ns)
    began = time.perf_counter()
    split = open_cached(files, size)
    open_s = time.perf_counter() - began
    images_per_s(split, 0)
    more_mb = anonymous_mb() - before_mb
    del split  # the kernel does not drop pages that are mapped
    drop_from_page_cache(file)
    split = open_cached(files, size)
    return {
        "decode_s": round(decode_s, 1), "decoded_per_s": round(len(files) / decode_s),
        "disk_mb": round(file.stat().st_size / 1e6), "open_again_s": round(open_s, 2),
        "anonymous_mb_more": round(more_mb, 1), "from_the_disk_per_s": round(images_per_s(split, 1)),
        "random_batches_per_s": compare(split, np.array(split.images)),
    }  # fmt: skip


def figures(count: int, sizes: Sequence[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        photographs = Path(folder) / "photographs"
        photographs.mkdir()
        files = write_jpegs(photographs, count)
        open_cached(files.subset(np.arange(min(256, count))), 64)  # warm up
        return {
            "images": count, "jpeg_mb": round(sum(os.path.getsize(path) for path in files.paths) / 1e6),
            "threads": default_workers(),
            **{f"{size}px": cache_figures(files, size, Path(folder)) for size in sizes},
        }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options_parser(__doc__).parse_args(arguments)
    save("image_cache", figures(COUNT, (64, 224)))


if __name__ == "__main__":
    main()
