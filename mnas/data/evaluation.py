"""The images on which a trained network is evaluated: those of a split of its training, or new ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnas.data.division import Division, is_root, summary
from mnas.data.folder import classes_below
from mnas.data.images import BrokenImages
from mnas.data.npz import npz_splits
from mnas.data.reading import Reading
from mnas.data.sources import DATA_SETS, existing
from mnas.data.splits import ArraySplit, FolderSplit, Split
from mnas.errors import BadInput, nearest

log = logging.getLogger("mnas.data")

SPLITS = ("train", "val", "test")


class Evaluated(NamedTuple):
    """Images with the labels of a network's classes."""

    name: str
    split: str
    images: Split


def is_data_of(division: Division, spec: str | Path, trained_on: str) -> bool:
    """Whether a data source is the one that was divided: the same name or path, or a folder that was moved."""
    if DATA_SETS.absolute(str(spec)) == trained_on:
        return True
    path = DATA_SETS.path(spec)
    return path is not None and path.is_dir() and is_root(path, division)


def new_images(
    spec: str | Path, split: str | None, classes: tuple[str, ...], *, reading: Reading, max_broken: int
) -> Evaluated:
    """Images that a network of these classes has not seen: a folder of some of the classes, or an .npz file.

    Where the source has splits, the one that is asked for, by default test; otherwise all images. Raises BadInput for
    a class that the network does not know.
    """
    path = existing(str(spec), DATA_SETS.path(spec))
    if path.is_dir():
        return _of_folder(path, split, classes, reading, BrokenImages(max_broken))
    if path.suffix.lower() == ".npz":
        return _of_npz(path, split, classes, reading)
    raise BadInput(f"The data path {path} is a file; expected a folder of class folders, or an .npz file.")


def _of_folder(
    root: Path, split: str | None, classes: tuple[str, ...], reading: Reading, broken: BrokenImages
) -> Evaluated:
    found = classes_below(root, frozenset(classes))
    kind = _chosen(root, list(found), split)
    named = {name: paths for name, paths in found[kind].items() if paths}
    labels = _labels_of(root, tuple(named), classes)
    if not named:
        raise BadInput(f"{root}: no images in it; expected a folder of images for each class")
    paths = [path for files in named.values() for path in files]
    rows = [label for label, files in zip(labels, named.values(), strict=True) for _ in files]
    return Evaluated(root.resolve().name, split or "test", FolderSplit(paths, np.asarray(rows), broken, reading))


def _of_npz(path: Path, split: str | None, classes: tuple[str, ...], reading: Reading) -> Evaluated:
    found, names = npz_splits(path, reading)
    images = found[_chosen(path, list(found), split)]
    labels = _labels_of(path, names or classes, classes)
    if len(images) and images.labels.max() >= len(labels):
        raise BadInput(f"{path}: has the label {images.labels.max()}; the network has {len(labels)} classes, from 0")
    mapped = np.asarray(labels, np.int64)[images.labels]
    return Evaluated(path.stem, split or "test", ArraySplit(lambda: images.images, mapped, reading=images.reading))


def _chosen(path: Path, found: list[str], split: str | None) -> str:
    """The split of a source that is evaluated: 'train' alone stands for images without splits."""
    if split is None and found == ["train"]:
        return "train"
    kind = split or "test"
    if found == ["train"] and kind == "test":
        log.warning("%s has no splits: all of its images are evaluated", path)
        return "train"
    if kind not in found:
        raise BadInput(f"{path}: has no {kind} split, only {', '.join(found)}; name one with --split")
    return kind


def _labels_of(path: Path, names: tuple[str, ...], classes: tuple[str, ...]) -> list[int]:
    """The network's class of each of a source's classes."""
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise BadInput(
            f"{path}: has the class '{unknown[0]}'{nearest(unknown[0], classes)}; the network knows {summary(classes)}"
        )
    return [classes.index(name) for name in names]
