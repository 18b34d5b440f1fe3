"""Decoded images on disk, once: memory-mapped files in the user's cache, the least recently used removed first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
import PIL
from numpy.typing import NDArray

from mnas.data.images import BrokenImage, decode, log, quiet_pillow
from mnas.data.splits import ArraySplit, FolderSplit
from mnas.errors import BadInput
from mnas.io.files import user_cache, write_atomic
from mnas.monitor.console import progress

FORMAT = 1  # of an entry's files, and of what `decode` makes of an image
CHUNK = 64  # images that a thread decodes at a time
PART_OF_DISK = 0.5  # of the free space that one entry may take

_mapped: weakref.WeakValueDictionary[Path, NDArray[np.uint8]] = weakref.WeakValueDictionary()  # in use here


def stored(split: FolderSplit, size: int, *, limit_bytes: int, workers: int) -> ArraySplit | None:
    """`split` at `size` pixels, memory-mapped from its entry in the user's cache, which is made where it is missing.

    None, with a line in the log, where the entry would have no room: all entries together keep to `limit_bytes`.
    Broken images are left out with their labels. Raises BadInput past the limit of them, or when nothing is left.
    """
    folder = images_folder()
    entry = folder / _name(split, size)
    shape = (len(split), size, size, 3)
    try:
        found = _open(entry, shape)
        if found:
            log.info("images: %d of %d px, decoded before, are read from %s", len(split), size, entry)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                # another process may have made it in the meantime
                found = _open(entry, shape) or _make(entry, split, shape, limit_bytes, workers)
    except OSError as error:
        log.warning(
            "%s cannot keep decoded images (%s): they are decoded anew in each epoch, unless XDG_CACHE_HOME names a "
            "folder that can", folder, error.strerror or error,
        )  # fmt: skip
        return None
    if found is None:
        return None
    images, broken = found
    for row, reason in broken.items():
        split.broken.add(split.paths[row], reason)
    return ArraySplit(images, split.labels, np.delete(np.arange(len(split)), list(broken)) if broken else None)


def images_folder() -> Path:
    """Where decoded images are kept, a folder for each split and size; it may be removed whenever no run uses it."""
    return user_cache("images")


def _name(split: FolderSplit, size: int) -> str:
    """The same for the same files, as far as their status tells (ctime: also of a chmod), and the same pillow."""
    digest = hashlib.sha256(f"{FORMAT} {PIL.__version__}".encode())
    for path in split.paths:
        about = "missing"
        with contextlib.suppress(OSError):
            status = os.stat(path)
            about = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        digest.update(os.fsencode(os.path.abspath(path)) + f"\0{about}\0".encode())
    return f"{size}px-{digest.hexdigest()[:24]}"


def _open(entry: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Pixels and the reasons of broken rows; None where there is no such entry, or a damaged one."""
    try:
        about = json.loads((entry / "about.json").read_bytes())
        broken = {int(row): str(reason) for row, reason in about["broken"].items()}
        images = _mapped.get(entry)
        if images is None:
            if (entry / "pixels").stat().st_size != math.prod(shape):
                return None
            images = np.memmap(entry / "pixels", np.uint8, "r", shape=shape)
            _mapped[entry] = images
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
    with contextlib.suppress(OSError):  # a cache that others own can be read all the same
        os.utime(entry)  # used last
    return images, broken


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time changes the cache: decoding keeps all cores busy anyway."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("images: waiting for another process, which decodes into %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(
    entry: Path, split: FolderSplit, shape: tuple[int, ...], limit_bytes: int, workers: int
) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Decode the entry, whole or not at all; None where it has no room."""
    for torn in entry.parent.glob("*.part"):
        shutil.rmtree(torn)
    if entry.exists():
        _remove(entry)
    needed = math.prod(shape)
    if not _make_room(entry.parent, needed, limit_bytes):
        return None
    log.info("images: decoding %d at %d px into %s (%.1f GB)", len(split), shape[1], entry, needed / 1e9)
    part = entry.with_name(f"{entry.name}.part")
    part.mkdir()
    try:
        broken = _decode(part / "pixels", split, shape, workers)
        source = os.path.commonpath([os.path.abspath(path) for path in split.paths])
        about = {"source": source, "images": len(split), "size": shape[1], "broken": broken}
        write_atomic(part / "about.json", json.dumps(about, indent=2))
        part.rename(entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _open(entry, shape)


def _decode(path: Path, split: FolderSplit, shape: tuple[int, ...], workers: int) -> dict[int, str]:
    """Write the pixels of every image to `path`, zeros for a broken one; the reasons of those, by row."""
    count, row_bytes = len(split), math.prod(shape[1:])
    with path.open("wb") as file:
        file.truncate(count * row_bytes)

    def fill(start: int) -> list[tuple[int, str]]:
        lost = []
        # Written, not assigned to a map of the file: on a full disk that would end the process by a signal.
        with path.open("r+b") as file:
            for row in range(start, min(start + CHUNK, count)):
                try:
                    pixels = decode(split.paths[row], shape[1])
                except BrokenImage as error:
                    lost.append((row, str(error)))
                else:
                    file.seek(row * row_bytes)
                    file.write(pixels.tobytes())
        return lost

    broken: dict[int, str] = {}
    pool = ThreadPoolExecutor(workers)
    with quiet_pillow(), progress("decode images", count) as shown:
        try:
            for done, found in enumerate(pool.map(fill, range(0, count, CHUNK)), start=1):
                for row, reason in found:
                    split.broken.add(split.paths[row], reason)
                    broken[row] = reason
                shown.update(min(done * CHUNK, count), count, f"{min(done * CHUNK, count)} images")
        finally:
            pool.shutdown(cancel_futures=True)
    if len(broken) == count:
        raise BadInput(f"None of {count} images could be decoded, such as {split.paths[0]}; give readable images.")
    with path.open("r+b") as whole:
        os.fsync(whole.fileno())
    return broken


def _make_room(folder: Path, needed: int, limit_bytes: int) -> bool:
    """Remove entries that are not in use here, oldest use first, until `needed` bytes fit; False if they cannot."""
    sizes = {entry: _bytes(entry) for entry in folder.iterdir() if entry.is_dir()}
    idle = sorted((entry for entry in sizes if entry not in _mapped), key=lambda entry: entry.stat().st_mtime_ns)
    total, free = sum(sizes.values()), shutil.disk_usage(folder).free
    removable = sum(sizes[entry] for entry in idle)

    def fits(removed: int) -> bool:
        return total - removed + needed <= limit_bytes and needed <= PART_OF_DISK * (free + removed)

    if not fits(removable):
        log.warning(
            "%s has no room for %.1f GB of decoded images (at most %.1f GB in all, and %.0f%% of the disk's %.1f GB "
            "free): they are decoded anew in each epoch",
            folder, needed / 1e9, limit_bytes / 1e9, 100 * PART_OF_DISK, free / 1e9,
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
    """Whole or not at all, for whoever looks."""
    gone = entry.rename(entry.with_name(f"{entry.name}.part"))
    shutil.rmtree(gone)
