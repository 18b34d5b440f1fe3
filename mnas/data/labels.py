"""Labels in a CSV file (--labels): a row for each image, with its path, its class, and perhaps its split."""

from __future__ import annotations

import csv
import io
import logging
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnas.data.depth import with_range
from mnas.data.images import HEIF, SUFFIXES, BrokenImages
from mnas.data.layout import split_of
from mnas.data.reading import Reading
from mnas.data.splits import FolderSplit, SourceSplits
from mnas.errors import BadInput
from mnas.io.strict_yaml import read_text

log = logging.getLogger("mnas.data")

MAX_BYTES = 500_000_000
PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "image_id", "img", "name", "id")
CLASSES = ("class", "label", "category", "class_name", "label_name", "target", "species", "diagnosis", "y")
SPLITS = ("split", "set", "subset", "partition")
"""Names of columns, in any case; without them the first column is the path, the second the class."""

Row = tuple[str, str, str]
"""Path, class and split as the file has them."""


def open_labelled(root: Path, file: Path, broken: BrokenImages, reading: Reading) -> SourceSplits[FolderSplit]:
    """The images that a CSV file names, below `root`, with its classes and splits. Raises BadInput.

    Rows of images that are not there are left out, with a warning.
    """
    labels: dict[str, tuple[str, str]] = {}
    lost: list[str] = []
    for name, label, split in _rows(file):
        path = _found(root, name)
        if path is not None and not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)):
            raise BadInput(f"{file}: {name} is outside the folder {root}; expected paths below it")
        if path is None:
            lost.append(name)
        elif labels.setdefault(path, (label, split)) != (label, split):
            raise BadInput(
                f"{file}: {name} is of the class '{labels[path][0]}' and of '{label}': several labels for an image are "
                "not supported"
            )
    if not labels:
        raise BadInput(f"{file}: none of its {len(lost)} images is in {root}, such as {(lost or ['?'])[0]}")
    if lost:
        log.warning("%s: %d images are not in %s, such as %s", file, len(lost), root, lost[0])
    classes = tuple(sorted({label for label, _ in labels.values()}))
    if len(classes) < 2:
        raise BadInput(f"{file}: only one class, '{classes[0]}'; expected at least two")
    numbers = {name: number for number, name in enumerate(classes)}
    reading = with_range(root, [path for path, (_, split) in labels.items() if split != "test"], reading)
    splits: dict[str, FolderSplit] = {}
    for kind in dict.fromkeys(split for _, split in labels.values()):
        paths = sorted(path for path, (_, split) in labels.items() if split == kind)
        splits[kind] = FolderSplit(paths, np.asarray([numbers[labels[path][0]] for path in paths]), broken, reading)
    if "train" not in splits:
        raise BadInput(f"{file}: has {', '.join(splits)} but no rows of the split train")
    return SourceSplits(classes, splits["train"], splits.get("val"), splits.get("test"))


def _rows(file: Path) -> list[Row]:
    """The rows of the file, read by its header if it has one."""
    text = read_text(file, MAX_BYTES).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        cells = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[cell.strip() for cell in row] for row in cells if any(row)]
    except csv.Error as error:
        raise BadInput(f"{file}: not valid CSV: {error}") from None
    if not rows or max(map(len, rows)) < 2:
        raise BadInput(f"{file}: expected rows such as cats/1.jpg,cat: a path and a class")
    header = [name.lower() for name in rows[0]]
    path, label, split = (_column(header, names) for names in (PATHS, CLASSES, SPLITS))
    first_row = int(path is not None or label is not None)
    one_hot = () if path is None or label is not None else _one_hot(rows, path)
    if not first_row:
        path, label = 0, 1
    elif len(header) == 2 and (path is None or label is None):  # the other of the two
        path, label = (1 - label, label) if path is None and label is not None else (path, 1 - (path or 0))
    elif path is not None and one_hot:
        label = path
    if path is None or label is None:
        raise BadInput(
            f"{file}: which column has the {'paths' if path is None else 'classes'}? Call it "
            f"'{'path' if path is None else 'class'}'; the columns are {', '.join(rows[0][:8])}"
        )
    found = []
    for number, row in enumerate(rows[first_row:], start=first_row + 1):
        if len(row) <= max(path, label):
            raise BadInput(f"{file}, row {number}: expected a path and a class, got {delimiter.join(row)}")
        name = one_hot[number - 1] if one_hot else row[label]
        if not name:
            raise BadInput(f"{file}, row {number}: {row[path]} has no class")
        kind = "train" if split is None else _split(row[split], f"{file}, row {number}")
        found.append((row[path], unicodedata.normalize("NFC", name), kind))
    return found


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _one_hot(rows: Sequence[Sequence[str]], path: int) -> tuple[str, ...]:
    """The class of each row where every column but the `path` is a class with 0 or 1; empty where that is not so."""
    names, *others = ([cell for i, cell in enumerate(row) if i != path] for row in rows)
    if len(names) < 2:
        return ()
    found = [""]
    for cells in others:
        ones = [name for name, cell in zip(names, cells, strict=False) if cell in ("1", "1.0")]
        if len(ones) != 1 or any(cell not in ("0", "1", "0.0", "1.0") for cell in cells):
            return ()
        found.append(ones[0])
    return tuple(found)


def _split(text: str, where: str) -> str:
    kind = split_of(text)
    if kind not in ("train", "val", "test"):
        raise BadInput(f"{where}: the split '{text}'; expected train, val or test")
    return kind


def _found(root: Path, name: str) -> str | None:
    """The path of an image below `root`, which may be named without its suffix."""
    for suffix in ("", *sorted(SUFFIXES | HEIF)):
        path = root / f"{name}{suffix}"
        if os.path.isfile(path):  # unlike Path.is_file it is False for a name that is too long
            return str(path)
    return None
