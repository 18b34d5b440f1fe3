"""A folder of class folders, with or without train/val/test above them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mnas.data.images import SUFFIXES, BrokenImages, log
from mnas.data.splits import FolderSplit, SourceSplits
from mnas.errors import BadInput

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open_folder(root: str | Path, max_broken: int) -> SourceSplits[FolderSplit]:
    """Find the classes and splits of a folder by its file names; no image is opened. Raises BadInput."""
    root, broken = Path(root), BrokenImages(max_broken)
    folders, images = _list(root)
    if not _has_splits(root, folders):
        classes = _classes(root, folders, images)
        return SourceSplits(classes, _split(root, classes, classes, broken))

    homes: dict[str, Path] = {}
    for name in folders:
        kind = SPLIT_NAMES.get(name.lower())
        if kind is None:
            log.warning("ignored %s: only train, val and test folders are read", root / name)
        elif kind in homes:
            raise BadInput(f"{root} has both '{homes[kind].name}' and '{name}'; expected one {kind} folder.")
        else:
            homes[kind] = root / name
    classes = _classes(homes["train"], *_list(homes["train"]))
    splits: dict[str, FolderSplit] = {}
    for kind, home in homes.items():
        inside, loose = _list(home)
        if not inside:
            raise BadInput(_no_class_folders(home, loose))
        unknown = sorted(set(inside) - set(classes))
        if unknown:
            raise BadInput(
                f"{home} has class folders that {homes['train']} lacks: {', '.join(unknown[:5])}; "
                "add training images of these classes, or remove the folders."
            )
        splits[kind] = _split(home, inside, classes, broken)
    return SourceSplits(classes, splits["train"], splits.get("val"), splits.get("test"))


def _has_splits(root: Path, folders: list[str]) -> bool:
    """Whether the first level is train/val/test. A class folder named 'train' is told apart by its images."""
    train = [name for name in folders if name.lower() == "train"]
    if train:
        inside, images = _list(root / train[0])
        return bool(inside) and not images
    if folders and all(name.lower() in SPLIT_NAMES for name in folders) and _list(root / folders[0])[0]:
        raise BadInput(f"{root} has {', '.join(folders)} but no 'train' folder; add one, with a folder for each class.")
    return False


def _classes(home: Path, folders: list[str], images: list[str]) -> tuple[str, ...]:
    if not folders:
        raise BadInput(_no_class_folders(home, images))
    if len(folders) == 1:
        raise BadInput(f"{home} has only one class folder, '{folders[0]}'; expected at least two, one for each class.")
    return tuple(folders)


def _no_class_folders(home: Path, images: list[str]) -> str:
    content = f"{len(images)} images directly in it" if images else "no folders in it"
    return f"{home} has {content}; expected one folder of images for each class, such as {home}/cat/1.jpg."


def _split(
    home: Path, folders: list[str] | tuple[str, ...], classes: tuple[str, ...], broken: BrokenImages
) -> FolderSplit:
    paths: list[str] = []
    labels: list[int] = []
    for name in folders:
        images = _images_below(home / name, frozenset())
        if not images:
            raise BadInput(
                f"The class folder {home / name} has no images; add images ({', '.join(sorted(SUFFIXES))}), "
                "or remove it."
            )
        paths += images
        labels += [classes.index(name)] * len(images)
    return FolderSplit(paths, np.asarray(labels, np.int64), broken)


def _images_below(folder: Path, above: frozenset[tuple[int, int]]) -> list[str]:
    """The paths of images in `folder` and below; a link to a folder `above` is not followed."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return []
    folders, images = _list(folder)
    paths = [str(folder / name) for name in images]
    for name in folders:
        paths += _images_below(folder / name, above | {here})
    return paths


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """The sorted names of folders and of images in `folder`, without hidden ones."""
    folders: list[str] = []
    images: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                link = entry.is_symlink()  # entry.is_dir() raises for a link to itself, os.path.isdir does not
                if os.path.isdir(entry.path) if link else entry.is_dir():
                    folders.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and (link or entry.is_file()):
                    images.append(entry.name)
    except OSError as error:
        raise BadInput(
            f"The folder {folder} cannot be read ({error.strerror}); expected one that this user may read."
        ) from error
    return sorted(folders), sorted(images)
