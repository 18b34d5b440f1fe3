"""A folder of class folders, with or without train/val/test above them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from mnas.data.depth import with_range
from mnas.data.images import SUFFIXES, BrokenImages, log
from mnas.data.layout import layout_of
from mnas.data.reading import AS_USUAL, Reading
from mnas.data.splits import FolderSplit, SourceSplits
from mnas.data.walk import images_below, left_out_words
from mnas.errors import BadInput


def open_folder(root: str | Path, max_broken: int, reading: Reading = AS_USUAL) -> SourceSplits[FolderSplit]:
    """Find the classes and splits of a folder by its file names, and the range of values in images of more than 8 bits.

    Raises BadInput.
    """
    root, broken = Path(root), BrokenImages(max_broken)
    files = classes_below(root)
    classes = _classes_with_images(root, files["train"])
    for kind, split in files.items():
        unknown = sorted(name for name, paths in split.items() if paths and name not in classes)
        if unknown:
            raise BadInput(
                f"{root}: the {kind} split has class folders that the training split lacks: {', '.join(unknown[:5])}; "
                "add training images of these classes, or remove the folders."
            )
    paths = [path for kind in files if kind != "test" for found in files[kind].values() for path in found]
    reading = with_range(root, paths, reading)
    splits = {kind: _split(split, classes, broken, reading) for kind, split in files.items()}
    return SourceSplits(classes, splits["train"], splits.get("val"), splits.get("test"))


def classes_below(root: Path, known: frozenset[str] = frozenset()) -> dict[str, dict[str, list[str]]]:
    """The image files of each class in each split; see `layout_of`. Raises BadInput."""
    left_out = Counter[str]()
    files = {
        kind: {name: [path for home in homes for path in images_below(home, left_out)] for name, homes in named.items()}
        for kind, named in layout_of(root, known).items()
    }
    if left_out:
        log.warning("%s: left out files that mnas does not read: %s", root, left_out_words(left_out))
    return files


def _classes_with_images(root: Path, files: dict[str, list[str]]) -> tuple[str, ...]:
    """The classes, at least two; folders without images are none, with a warning. Raises BadInput."""
    classes = tuple(name for name, paths in files.items() if paths)
    suffixes, empty = ", ".join(sorted(SUFFIXES)), ", ".join(name for name, paths in files.items() if not paths)
    if len(classes) < 2:
        found = f"only one class folder with images, '{classes[0]}'" if classes else "no class folder with images"
        without = f"; without images: {empty}" * bool(empty)
        raise BadInput(f"{root} has {found}; expected at least two, one for each class ({suffixes}){without}")
    if empty:
        log.warning("%s: left out folders without images (%s): %s", root, suffixes, empty)
    return classes


def _split(
    files: dict[str, list[str]], classes: tuple[str, ...], broken: BrokenImages, reading: Reading
) -> FolderSplit:
    paths = [path for name in classes for path in files.get(name, [])]
    labels = [label for label, name in enumerate(classes) for _ in files.get(name, [])]
    return FolderSplit(paths, np.asarray(labels, np.int64), broken, reading)

