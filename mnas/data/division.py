"""Which images are in which split, written down: so that a later evaluation, or a resumed run, has the same ones."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from mnas.data.reading import Reading
from mnas.data.splits import FolderSplit, S, SourceSplits, Split
from mnas.errors import BadInput
from mnas.io.files import parse_json, write_json
from mnas.io.strict_yaml import Strict, validate

log = logging.getLogger("mnas.data")

DIVISION_FILE = "splits.json"
ENOUGH_FOUND = 0.5
"""Where fewer of the files are found, it is not the same data."""

Row = Annotated[int, pydantic.Field(ge=0)]


class Division(Strict):
    """The images of each split: files by their paths and sizes, or rows of the training arrays."""

    root: str | None = None
    """The folder that the paths start from, absolute; None for arrays."""
    given: str = ""
    """The data as they were named."""
    classes: tuple[str, ...]
    reading: Reading = Reading()
    files: dict[str, dict[str, int]] = {}
    """Split -> path below the root -> bytes."""
    rows: dict[str, tuple[Row, ...]] = {}
    """Split -> rows of the training images, for each split that was divided off them."""
    images: int = 0
    """Training images in the arrays that were divided."""
    labels_sha256: str = ""
    """Digest of their labels."""
    sha256: str = ""
    """Digest of the lists."""

    @property
    def digest(self) -> str:
        """The same for the same images in the same splits, wherever they are."""
        return _digest({"classes": self.classes, "lists": self.sha256, "labels": self.labels_sha256})

    @property
    def train_images(self) -> int:
        """How many images the training split has."""
        lists = self.files or self.rows
        return len(lists["train"]) if "train" in lists else self.images


def division_of(source: SourceSplits[Any], whole: Split, root: Path | None, given: str) -> Division:
    """The division of a source with all three splits; `whole` are the training images that it was made from."""
    splits: dict[str, Any] = {"train": source.train, "val": source.val, "test": source.test}
    common: dict[str, Any] = {"given": given, "classes": source.classes, "reading": source.train.reading}
    if root is not None:
        files = {kind: _sizes(split, root) for kind, split in splits.items()}
        return Division(root=os.path.abspath(root), files=files, sha256=_digest(files), **common)
    rows = {
        kind: tuple(split.rows.tolist()) for kind, split in splits.items() if split.rows is not None
    }
    labels = np.asarray(whole.labels, np.int64)
    return Division(
        rows=rows, images=len(labels), labels_sha256=_labels_digest(labels), sha256=_digest(rows), **common
    )


def write_division(folder: Path, division: Division) -> None:
    """Write splits.json into `folder`."""
    write_json(folder / DIVISION_FILE, division.model_dump(mode="json"))


def read_division(folder: Path) -> Division | None:
    """What `write_division` wrote there; None where nothing was. Raises BadInput for a damaged file."""
    path = folder / DIVISION_FILE
    if not path.exists():
        return None
    try:
        division = validate(Division, parse_json(path.read_bytes(), str(path)), str(path))
    except BadInput as error:
        raise BadInput(f"{error}; the splits of the training cannot be told without it") from None
    if _digest(division.files or division.rows) != division.sha256:
        raise BadInput(f"{path}: changed since it was written: its lists do not have the checksum in it; restore it")
    return division


def is_root(folder: Path, division: Division) -> bool:
    """Whether most files of a division are in `folder`, with their sizes: it is the same data, perhaps moved."""
    if not division.files:
        return False
    recorded = [item for files in division.files.values() for item in files.items()]
    return sum(_size(folder / path) == size for path, size in recorded) > ENOUGH_FOUND * len(recorded)


def divided_again(source: SourceSplits[S], division: Division, root: Path | None, name: str) -> SourceSplits[S]:
    """The source in the splits that were written down; images that came later are left out, with a warning.

    Raises BadInput where the images are others, or a split has lost all of its own.
    """
    if source.classes != division.classes:
        raise BadInput(
            f"{name}: has the classes {summary(source.classes)}; at the training it had {summary(division.classes)}: "
            "restore the data, or name other data with --data"
        )
    if isinstance(source.train, FolderSplit):
        assert root is not None
        return _files_again(source, division, root, name)
    return _rows_again(source, division, name)


def _files_again(source: SourceSplits[Any], division: Division, root: Path, name: str) -> SourceSplits[Any]:
    found: dict[str, tuple[str, int]] = {}
    for split in (source.train, source.val, source.test):
        if split is not None:
            for path, label in zip(split.paths, split.labels.tolist(), strict=True):
                found[_below(root, path)] = (path, label)
    recorded = {path: size for files in division.files.values() for path, size in files.items()}
    gone = recorded.keys() - found.keys()
    new = found.keys() - recorded.keys()
    changed = sum(_size(found[path][0]) != size for path, size in recorded.items() if path in found)
    if len(gone) >= (1 - ENOUGH_FOUND) * len(recorded):
        raise BadInput(
            f"{name}: {len(gone)} of the {len(recorded)} images of the training are gone from {root}; name the folder "
            "where they are now with --data, or restore them"
        )
    if gone or new or changed:
        log.warning(
            "%s: changed since the splits were made: gone: %d images; new and left out: %d; of another size: %d",
            name, len(gone), len(new), changed,
        )  # fmt: skip
    splits = []
    for kind in ("train", "val", "test"):
        there = [found[path] for path in division.files[kind] if path in found]
        if not there:
            raise BadInput(f"{name}: none of the {len(division.files[kind])} {kind} images of the training is left")
        paths, labels = zip(*there, strict=True)
        broken, reading = source.train.broken, source.train.reading
        splits.append(FolderSplit(paths, np.asarray(labels, np.int64), broken, reading))
    return SourceSplits(source.classes, *splits)


def _rows_again(source: SourceSplits[Any], division: Division, name: str) -> SourceSplits[Any]:
    whole, splits = source.train, {"train": source.train, "val": source.val, "test": source.test}
    if not division.rows:
        return source
    labels = whole.labels[: division.images]
    if len(labels) < division.images or _labels_digest(labels) != division.labels_sha256:
        raise BadInput(
            f"{name}: its {len(whole)} training images are not those of the training ({division.images}, in another "
            "order or with other labels), so that the test images cannot be told; restore the file, or name other data"
        )
    if len(whole) > division.images:
        log.warning(
            "%s: changed since the splits were made: new and left out: %d training images", name,
            len(whole) - division.images,
        )  # fmt: skip
    for kind, rows in division.rows.items():
        splits[kind] = whole.subset(np.asarray(rows, np.int64))
    return SourceSplits(source.classes, splits["train"], splits["val"], splits["test"])


def summary(names: Sequence[str]) -> str:
    """The first three names and how many there are."""
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"


def _sizes(split: FolderSplit, root: Path) -> dict[str, int]:
    return {_below(root, path): _size(path) for path in split.paths}


def _below(root: Path, path: str) -> str:
    """The path below the root, with slashes; bytes that are no UTF-8 are escaped."""
    return os.fsencode(Path(path).relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _size(path: str | Path) -> int:
    """Bytes of a file; -1 where it cannot be reached."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _digest(lists: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()


def _labels_digest(labels: NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels, np.int64).tobytes()).hexdigest()
