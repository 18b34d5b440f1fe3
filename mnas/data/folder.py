"""A folder of class folders, with or without train/val/test above them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mnas.data.images import SUFFIXES, BrokenImages, log
from mnas.data.splits import FolderSplit
from mnas.errors import BadInput

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open_folder(
    root: Path, max_broken: int
) -> tuple[tuple[str, ...], FolderSplit, FolderSplit | None, FolderSplit | None]:
    """Class names, train, val, test, from file names alone: no image is opened. Raises BadInput."""
    broken = BrokenImages(max_broken)
    folders, images = _list(root)
    if not _has_splits(root, folders):
        classes = _classes(root, folders, images)
        return classes, _split(root, classes, classes, broken), None, None

    homes: dict[str, Path] = {}
    for name in folders:
        kind = SPLIT_NAMES.get(name.lower())
        if kind is None:
            log.warning("left out %s: beside 'train', only val and test folders are read", root / name)
        elif kind in homes:
            raise BadInput(f"{root} has both '{homes[kind].name}' and '{name}'; keep one {kind} folder.")
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
                "give them training images, or remove them."
            )
        splits[kind] = _split(home, inside, classes, broken)
    return classes, splits["train"], splits.get("val"), splits.get("test")


def _has_splits(root: Path, folders: list[str]) -> bool:
    """Whether the first level is train/val/test; a class may be called 'train', but then it holds images."""
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
    found = f"{len(images)} images directly" if images else "no folders"
    return f"{home} has {found} in it; expected one folder for each class, with its images, as in {home}/cat/1.jpg."


def _split(
    home: Path, folders: list[str] | tuple[str, ...], classes: tuple[str, ...], broken: BrokenImages
) -> FolderSplit:
    paths: list[str] = []
    labels: list[int] = []
    for name in folders:
        found = _images_below(home / name, frozenset())
        if not found:
            raise BadInput(
                f"The class folder {home / name} has no images; put images in it ({', '.join(sorted(SUFFIXES))}), "
                "or remove it."
            )
        paths += found
        labels += [classes.index(name)] * len(found)
    return FolderSplit(paths, np.asarray(labels, np.int64), broken)


def _images_below(folder: Path, above: frozenset[tuple[int, int]]) -> list[str]:
    """Image paths in `folder` and the folders below it; a link back to a folder `above` is not followed."""
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
    """Names of the folders and of the images in `folder`, each sorted; hidden ones are left out."""
    folders: list[str] = []
    images: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                link = entry.is_symlink()  # of a link to itself, entry.is_dir() raises where os.path.isdir says False
                if os.path.isdir(entry.path) if link else entry.is_dir():
                    folders.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and (link or entry.is_file()):
                    images.append(entry.name)
    except OSError as error:
        raise BadInput(
            f"The folder {folder} cannot be read ({error.strerror}); it must be readable by this user."
        ) from error
    return sorted(folders), sorted(images)
