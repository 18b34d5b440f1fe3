"""The image files that are named or in and below a folder, and the files and folders that are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mnas.data.images import HEIF, SUFFIXES, log, readable_heif
from mnas.errors import BadInput, MissingDependency

JUNK = {
    *("__macosx", "@eadir", "@tmp", "@recycle", "#recycle", "$recycle.bin", "@__thumb", "lost+found"),
    *("system volume information", "thumbnails", "thumbs", "_thumbs", "__pycache__"),
}
"""Folders that systems, network drives and tools leave behind, in lower case; hidden ones are left out anyway."""
PICTURES = HEIF | {
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw", ".jxl", ".jp2", ".psd"),
    *(".svg", ".dcm", ".mp4", ".mov", ".avi", ".mkv", ".m4v", ".webm", ""),
}
"""Suffixes of pictures and films that are not read; files of other suffixes are no images."""


class Listing(NamedTuple):
    """The sorted names in a folder, without hidden ones."""

    folders: list[str]
    images: list[str]
    others: list[str]
    junk: list[str]
    """Folders in JUNK."""


def listed(folder: Path) -> Listing:
    """What is in a folder. Raises BadInput where it cannot be read, or a name is no UTF-8."""
    found = Listing([], [], [], [])
    suffixes = SUFFIXES | HEIF if readable_heif() else SUFFIXES
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower() in JUNK:
                    found.junk.append(entry.name)
                    continue
                link = entry.is_symlink()  # entry.is_dir() raises for a link to itself, os.path.isdir does not
                if os.path.isdir(entry.path) if link else entry.is_dir():
                    found.folders.append(_utf8(folder, entry.name))
                elif link or entry.is_file():
                    is_image = os.path.splitext(entry.name)[1].lower() in suffixes
                    (found.images if is_image else found.others).append(entry.name)
    except OSError as error:
        raise BadInput(
            f"The folder {folder} cannot be read ({error.strerror}); expected one that this user may read."
        ) from error
    return Listing(*map(sorted, found))


def _utf8(folder: Path, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadInput(
            f"{folder}: the folder {name.encode(errors='surrogateescape')!r} has a name that is not UTF-8; rename it."
        ) from None
    return name


def images_below(folder: Path, left_out: Counter[str], above: frozenset[tuple[int, int]] = frozenset()) -> list[str]:
    """The paths of images in `folder` and below; a link to a folder `above` is not followed.

    Pictures that are not read are counted in `left_out` by their suffixes.
    """
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return []
    found = listed(folder)
    paths = [str(folder / name) for name in found.images]
    left_out.update(suffix for suffix in _suffixes(found.others) if suffix in PICTURES)
    for name in found.folders:
        paths += images_below(folder / name, left_out, above | {here})
    return paths


def named_images(named: Sequence[str | Path]) -> list[str]:
    """The paths of images: files as they are named, and those in and below folders.

    Raises BadInput for a name that is nothing, a folder without images, or a format that is not read here.
    """
    paths: list[str] = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            paths += _in_folder(path)
        elif not path.exists():
            raise BadInput(f"{path}: no such image or folder")
        elif path.suffix.lower() in HEIF and not readable_heif():
            raise MissingDependency(f"{path}: {path.suffix} files need a package: pip install pillow-heif")
        else:
            paths.append(str(path))
    if not paths:
        raise BadInput("no images are named; expected image files, or folders of them")
    return paths


def _in_folder(folder: Path) -> list[str]:
    left_out = Counter[str]()
    paths = images_below(folder, left_out)
    others = f"left out files that mnas does not read: {left_out_words(left_out)}" if left_out else ""
    if not paths:
        raise BadInput(f"{folder}: no images in it ({', '.join(sorted(SUFFIXES))}){f'; {others}' if others else ''}")
    if others:
        log.warning("%s: %s", folder, others)
    return paths


def _suffixes(names: Iterable[str]) -> list[str]:
    return [os.path.splitext(name)[1].lower() for name in names]


def left_out_words(left_out: Counter[str]) -> str:
    """'12 of .heic, 3 without a suffix', the most frequent first, and what reads HEIC."""
    words = [f"{count} {f'of {suffix}' if suffix else 'without a suffix'}" for suffix, count in left_out.most_common()]
    advice = "; pip install pillow-heif reads HEIC" if HEIF & left_out.keys() else ""
    return ", ".join(words) + advice
