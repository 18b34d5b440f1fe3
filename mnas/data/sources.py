"""`--data`: the built-in digits, a folder of class folders, an .npz, or torchvision:NAME, as three splits."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mnas.config import MAX_BROKEN
from mnas.data.folder import open_folder
from mnas.data.npz import open_npz
from mnas.data.splits import ArraySplit, FolderSplit, Split, stratified
from mnas.data.vision import open_torchvision
from mnas.errors import BadInput, nearest
from mnas.io.names import Names

S = TypeVar("S", ArraySplit, FolderSplit)
DATA_SETS = Names("built-in data set", lambda text: text == "digits" or text.startswith("torchvision:"))
HELD_OUT = 0.2  # the part of a split that becomes the one that the source lacks


@dataclass(frozen=True)
class ImageData:
    """Labelled images in three splits; nothing of `test` is decoded before it is fetched."""

    name: str
    classes: tuple[str, ...]
    image_size: int  # native pixels of the shorter side; the median over a sample for folders
    flip: bool  # whether a mirrored image is still of its class
    train: Split
    val: Split  # the search-validation split
    test: Split

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def load_data(spec: str | Path, *, seed: int = 0, max_broken: int = MAX_BROKEN) -> ImageData:
    """Open a data source; a missing test, then a missing val, is 20% of train: stratified, the same for the same seed.

    At most `max_broken` undecodable images are skipped. Raises BadInput, MissingDependency.
    """
    name, path = str(spec), DATA_SETS.path(spec)
    if path is None and name == "digits":
        return _image_data("digits", False, seed, tuple("0123456789"), _digits())
    if path is None and name.startswith("torchvision:"):
        classes, flip, train, test = open_torchvision(name.removeprefix("torchvision:"))
        return _image_data(name, flip, seed, classes, train, None, test)
    path = _existing(name, path)
    if path.is_dir():
        return _image_data(path.resolve().name, True, seed, *open_folder(path, max_broken))
    if path.suffix.lower() == ".npz":
        return _image_data(path.stem, True, seed, *open_npz(path))
    raise BadInput(f"The data path {path} is a file; expected a folder of class folders, or an .npz file.")


def _existing(name: str, path: Path | None) -> Path:
    """`path`, where it is there; else BadInput, which for an unknown name shows the nearest one."""
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


def _digits() -> ArraySplit:
    # Slow to import, and no other source needs it; scikit-learn has no types.
    digits = importlib.import_module("sklearn.datasets").load_digits()
    return ArraySplit(np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target)


def _image_data(
    name: str, flip: bool, seed: int, classes: tuple[str, ...], train: Any, val: Any = None, test: Any = None
) -> ImageData:
    missing = [kind for kind, split in (("val", val), ("test", test)) if split is None]
    if missing:
        counts = np.bincount(train.labels, minlength=len(classes))
        rare = int(counts.argmin())
        needed = len(missing) + 1
        if counts[rare] < needed:
            raise BadInput(
                f"{name}: the class '{classes[rare]}' has {counts[rare]} training image(s), of which "
                f"{' and '.join(missing)} must get one each; expected at least {needed} images in each class: "
                "add some, or remove the class."
            )
    if test is None:
        train, test = _divide(train, seed)
    if val is None:
        train, val = _divide(train, seed)
    return ImageData(name, classes, train.native_size(), flip, train, val, test)


def _divide(split: S, seed: int) -> tuple[S, S]:
    rest, part = stratified(split.labels, HELD_OUT, seed)
    return split.subset(rest), split.subset(part)
