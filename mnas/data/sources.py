"""Data sources (`--data`): digits, a folder of class folders, an .npz file or torchvision:NAME, in three splits."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnas.config import MAX_BROKEN
from mnas.data.folder import open_folder
from mnas.data.npz import open_npz
from mnas.data.splits import ArraySplit, S, SourceSplits, Split, stratified
from mnas.data.vision import MIRRORED_KEEPS_CLASS, open_torchvision
from mnas.errors import BadInput, nearest
from mnas.io.names import Names

DATA_SETS = Names("built-in data set", lambda text: text == "digits" or text.startswith("torchvision:"))
HELD_OUT = 0.2  # the fraction of train that becomes a missing split


@dataclass(frozen=True)
class ImageData:
    """Labelled images in three splits; test images are decoded only when they are fetched."""

    name: str
    classes: tuple[str, ...]
    image_size: int  # shorter side in pixels; for a folder, the median over a sample
    flip: bool  # whether a mirrored image keeps its class
    train: Split
    val: Split  # the search-validation split
    test: Split

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


def load_data(spec: str | Path, *, seed: int = 0, max_broken: int = MAX_BROKEN) -> ImageData:
    """Open a data source: digits, a folder, an .npz file, or torchvision:NAME.

    A missing test split, then a missing val split, is 20% of train, stratified and determined by `seed`. At most
    `max_broken` broken images are skipped. Raises BadInput, MissingDependency.
    """
    name, path = str(spec), DATA_SETS.path(spec)
    if path is None and name == "digits":
        return _image_data("digits", _digits(), flip=False, seed=seed)
    if path is None and name.startswith("torchvision:"):
        dataset = name.removeprefix("torchvision:")
        return _image_data(name, open_torchvision(dataset), flip=MIRRORED_KEEPS_CLASS[dataset], seed=seed)
    path = _existing(name, path)
    if path.is_dir():
        return _image_data(path.resolve().name, open_folder(path, max_broken), flip=True, seed=seed)
    if path.suffix.lower() == ".npz":
        return _image_data(path.stem, open_npz(path), flip=True, seed=seed)
    raise BadInput(f"The data path {path} is a file; expected a folder of class folders, or an .npz file.")


def _existing(name: str, path: Path | None) -> Path:
    """`path`, if it exists; otherwise BadInput, which for an unknown name shows the nearest one."""
    if path is None:
        raise BadInput(
            f"The data '{name}' is neither a path nor a known name{nearest(name, ['digits', 'torchvision:NAME'])}"
        )
    try:
        if path.exists():
            return path
    except (OSError, ValueError) as error:
        raise BadInput(f"The data path '{name}' cannot be reached ({error}); expected a readable path.") from error
    raise BadInput(
        f"The data path {path} does not exist; expected a folder of class folders, an .npz file or 'digits'."
    )


def _digits() -> SourceSplits[ArraySplit]:
    # scikit-learn is slow to import, and has no types
    digits = importlib.import_module("sklearn.datasets").load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return SourceSplits(tuple("0123456789"), ArraySplit(images, digits.target))


def _image_data(name: str, source: SourceSplits[Any], *, flip: bool, seed: int) -> ImageData:
    """The source with its missing splits divided off train. Raises BadInput for classes with too few images."""
    classes, train, val, test = source
    missing = [kind for kind, split in (("val", val), ("test", test)) if split is None]
    if missing:
        counts = np.bincount(train.labels, minlength=len(classes))
        rare = int(counts.argmin())
        needed = len(missing) + 1
        if counts[rare] < needed:
            raise BadInput(
                f"{name}: the class '{classes[rare]}' has {counts[rare]} training image(s); expected at least "
                f"{needed}, one of them for {' and one for '.join(missing)}: add images, or remove the class."
            )
    if test is None:
        train, test = _divide(train, seed)
    if val is None:
        train, val = _divide(train, seed)
    return ImageData(name, classes, train.native_size(), flip, train, val, test)


def _divide(split: S, seed: int) -> tuple[S, S]:
    rest, part = stratified(split.labels, HELD_OUT, seed)
    return split.subset(rest), split.subset(part)
