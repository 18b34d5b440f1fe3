"""Decoded images as memory-mapped files in the user's cache; the least recently used are removed first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np
import PIL
from numpy.typing import NDArray

from mnas.data.images import BrokenImage, decode, log, quiet_pillow
from mnas.data.splits import ArraySplit, FolderSplit
from mnas.errors import BadInput
from mnas.io.checksum import digest_of, sealed, unsealed
from mnas.io.files import parse_json, user_cache, write_atomic
from mnas.io.size import Size, shown, sides, sized, written
from mnas.monitor.console import progress

FORMAT = 2  # version of an entry's files and of `decode`
CHUNK = 64  # images that a thread decodes at a time
PART_OF_DISK = 0.5  # the largest part of the free space for one entry

_mapped: weakref.WeakValueDictionary[Path, NDArray[np.uint8]] = weakref.WeakValueDictionary()  # in use by this process


class Entry(NamedTuple):
    """The decoded images of one split and size."""

    images: NDArray[np.uint8]
    """Pixels (n, height, width, 3), memory-mapped; zeros for a broken image."""
    broken: dict[int, str]
    """Row -> reason, for the broken images."""


def stored(split: FolderSplit, size: Size, *, limit_bytes: int, threads: int) -> ArraySplit | None:
    """`split` decoded at `size`, memory-mapped from its entry in the user's cache; a missing entry is made.

    None, with a warning in the log, where the entry has no room: all entries together take at most `limit_bytes`.
    Broken images are left out with their labels. Raises BadInput past their limit, or where no image is left.
    """
    folder = images_folder()
    path = folder / _name(split, size)
    shape = (len(split), *sides(size), 3)
    try:
        entry = _open(path, shape)
        if entry:
            log.info("images: reading %d images of %s px from the cache %s", len(split), shown(size), path)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                # another process may have made it in the meantime
                entry = _open(path, shape) or _make(path, split, shape, limit_bytes, threads)
    except OSError as error:
        log.warning(
            "%s cannot store decoded images (%s): every epoch decodes them again; set XDG_CACHE_HOME to a folder with "
            "room", folder, error.strerror or error,
        )  # fmt: skip
        return None
    if entry is None:
        return None
    images, broken = entry
    for row, reason in broken.items():
        split.broken.add(split.paths[row], reason)
    rows = np.delete(np.arange(len(split)), list(broken)) if broken else None
    return ArraySplit(images, split.labels, rows, split.reading)


def images_folder() -> Path:
    """The folder of decoded images, with an entry for each split and size; it may be removed while no run uses it."""
    return user_cache("images")


def _name(split: FolderSplit, size: Size) -> str:
    """The entry's name: a digest of the files' paths, sizes and times, how they are read, and pillow's version."""
    digest = hashlib.sha256(f"{FORMAT} {PIL.__version__} {split.reading}".encode())
    for path in split.paths:
        state = "missing"
        with contextlib.suppress(OSError):
            status = os.stat(path)
            state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        digest.update(os.fsencode(os.path.abspath(path)) + f"\0{state}\0".encode())
    return f"{shown(size)}px-{digest.hexdigest()[:24]}"


def _open(path: Path, shape: tuple[int, ...]) -> Entry | None:
    """The entry in the folder `path`; None where it is missing, or damaged, which is logged.

    Its checksum is compared once in a process, which reads all its pixels.
    """
    try:
        about = parse_json(unsealed((path / "about.json").read_bytes()), f"{path}/about.json")
        broken = {int(row): str(reason) for row, reason in about["broken"].items()}
        images = _mapped.get(path)
        if images is None:
            if (path / "pixels").stat().st_size != math.prod(shape):
                raise ValueError("its pixels are not whole")
            if "sha256" in about and digest_of(path / "pixels") != about["sha256"]:  # not there in earlier versions
                raise ValueError("its pixels do not have the checksum in about.json")
            images = np.memmap(path / "pixels", np.uint8, "r", shape=shape)
            _mapped[path] = images
    except FileNotFoundError:
        return None
    except (BadInput, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s: damaged, its images are decoded again (%s)", path, error)
        return None
    with contextlib.suppress(OSError):  # another user's cache can be read but not touched
        os.utime(path)  # the time of last use
    return Entry(images, broken)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time changes the cache; decoding uses all cores."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("images: waiting for another process that is decoding into %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(
    path: Path, split: FolderSplit, shape: tuple[int, ...], limit_bytes: int, threads: int
) -> Entry | None:
    """Decode an entry into the folder `path`, whole or not at all; None where it has no room."""
    for unfinished in path.parent.glob("*.part"):
        shutil.rmtree(unfinished)
    if path.exists():
        _remove(path)
    needed_bytes = math.prod(shape)
    if not _make_room(path.parent, needed_bytes, limit_bytes):
        return None
    size = sized(*shape[1:3])
    log.info("images: decoding %d at %s px into %s (%.1f GB)", len(split), shown(size), path, needed_bytes / 1e9)
    part = path.with_name(f"{path.name}.part")
    part.mkdir()
    try:
        broken = _decode(part / "pixels", split, shape, threads)
        source = os.path.commonpath([os.path.abspath(image) for image in split.paths])
        about = {
            "source": source, "images": len(split), "size": written(size), "broken": broken,
            "sha256": digest_of(part / "pixels"),
        }  # fmt: skip
        write_atomic(part / "about.json", sealed((json.dumps(about, indent=2) + "\n").encode()))
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _open(path, shape)


def _decode(path: Path, split: FolderSplit, shape: tuple[int, ...], threads: int) -> dict[int, str]:
    """Write the pixels of every image to `path`, zeros for a broken one; returns row -> reason of the broken ones."""
    count, row_bytes, stopped = len(split), math.prod(shape[1:]), threading.Event()
    with path.open("wb") as file:
        file.truncate(count * row_bytes)

    def fill(start: int) -> list[tuple[int, str]]:
        lost = []
        # written rather than memory-mapped, which kills the process by a signal when the disk is full
        with path.open("r+b") as file:
            for row in range(start, min(start + CHUNK, count)):
                if stopped.is_set():  # large images take seconds each
                    break
                try:
                    pixels = decode(split.paths[row], sized(*shape[1:3]), split.reading)
                except BrokenImage as error:
                    lost.append((row, str(error)))
                else:
                    file.seek(row * row_bytes)
                    file.write(pixels.tobytes())
        return lost

    broken: dict[int, str] = {}
    pool = ThreadPoolExecutor(threads)
    with quiet_pillow(), progress("decode images", count) as shown:
        try:
            for chunk, lost in enumerate(pool.map(fill, range(0, count, CHUNK)), start=1):
                for row, reason in lost:
                    split.broken.add(split.paths[row], reason)
                    broken[row] = reason
                decoded = min(chunk * CHUNK, count)
                shown.update(decoded, count, f"{decoded} images")
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    if len(broken) == count:
        raise BadInput(f"None of {count} images could be decoded, such as {split.paths[0]}; expected image files.")
    with path.open("r+b") as whole:
        os.fsync(whole.fileno())
    return broken


def _make_room(folder: Path, needed_bytes: int, limit_bytes: int) -> bool:
    """Remove unused entries, the least recently used first, until `needed_bytes` fit; False where they cannot."""
    sizes = {entry: _bytes(entry) for entry in folder.iterdir() if entry.is_dir()}
    idle = sorted((entry for entry in sizes if entry not in _mapped), key=lambda entry: entry.stat().st_mtime_ns)
    total, free = sum(sizes.values()), shutil.disk_usage(folder).free
    removable = sum(sizes[entry] for entry in idle)

    def fits(removed: int) -> bool:
        return total - removed + needed_bytes <= limit_bytes and needed_bytes <= PART_OF_DISK * (free + removed)

    if not fits(removable):
        log.warning(
            "%s has no room for %.1f GB of decoded images (limits: %.1f GB in all, and %.0f%% of the %.1f GB that are "
            "free on the disk): every epoch decodes them again",
            folder, needed_bytes / 1e9, limit_bytes / 1e9, 100 * PART_OF_DISK, free / 1e9,
        )  # fmt: skip
        return False
    removed = 0
    for entry in idle:
        if fits(removed):
            break
        log.info("images: removing %s (%.1f GB) to make room", entry, sizes[entry] / 1e9)
        _remove(entry)
        removed += sizes[entry]
    return True


def _bytes(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())


def _remove(entry: Path) -> None:
    """Remove an entry, so that other processes see it whole or not at all."""
    unfinished = entry.rename(entry.with_name(f"{entry.name}.part"))
    shutil.rmtree(unfinished)
