"""Data sources (`--data`): digits, a folder of class folders, an .npz file or torchvision:NAME, in three splits."""

from __future__ import annotations

import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnas.config import MAX_BROKEN
from mnas.data.division import Division, divided_again, division_of
from mnas.data.folder import open_folder
from mnas.data.groups import groups_of, stratified_groups
from mnas.data.images import BrokenImages
from mnas.data.labels import open_labelled
from mnas.data.npz import open_npz
from mnas.data.reading import AS_USUAL, Reading
from mnas.data.splits import ArraySplit, S, SourceSplits, Split, stratified
from mnas.data.vision import MIRRORED_KEEPS_CLASS, open_torchvision
from mnas.errors import BadInput, nearest
from mnas.io.names import Names
from mnas.io.size import Size, shown

log = logging.getLogger("mnas.data")

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
    division: Division | None = None  # which images are in which split, to be written down

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


def load_data(
    spec: str | Path, *, seed: int = 0, max_broken: int = MAX_BROKEN, reading: Reading = AS_USUAL,
    group_by: str | None = None, labels: str | Path | None = None, division: Division | None = None,
) -> ImageData:  # fmt: skip
    """Open a data source: digits, a folder, an .npz file, or torchvision:NAME.

    A missing test split, then a missing val split, is 20% of train, stratified and determined by `seed`; files whose
    paths agree in what the regular expression `group_by` finds stay in one split. A `division` that was written down
    takes the place of both. `labels` is a CSV file with the classes of a folder's images: see `open_labelled`. At most
    `max_broken` broken images are skipped. Raises BadInput, MissingDependency.
    """
    reading = reading if division is None else division.reading
    if labels is None:
        opened = _opened(spec, max_broken, reading)
    else:
        opened = _labelled(existing(str(spec), DATA_SETS.path(spec)), Path(labels), max_broken, reading)
    return _image_data(opened, Dividing(str(spec), seed, group_by), division)


ASPECT = 1.5
"""Where the median image is longer than the network's shape by more, what cropping costs is said."""


def warn_of_shape(name: str, split: Split, size: Size) -> None:
    """Say what is lost of images whose shape is far from that of a network's input."""
    ratio = split.aspect_ratio(size)
    if not ratio > ASPECT or split.reading.fit != "crop":
        return
    if isinstance(size, int):
        log.warning(
            "%s: the images are %.1f times as long as they are wide (median); only the central square, %.0f%% of them, "
            "is seen by a network: --fit pad or --fit squeeze keeps the rest, and so may rectangular inputs: "
            "--resolution HEIGHTxWIDTH", name, ratio, 100 / ratio,
        )  # fmt: skip
    else:
        log.warning(
            "%s: the shape of the images differs by a factor of %.1f (median) from an input of %s; only the central "
            "part of that shape, %.0f%% of them, is seen by a network: --fit pad or --fit squeeze keeps the rest",
            name, ratio, shown(size), 100 / ratio,
        )  # fmt: skip


class Opened(NamedTuple):
    """A data source as it is, before splits that it lacks are divided off."""

    name: str
    splits: SourceSplits[Any]
    flip: bool
    """Whether a mirrored image keeps its class."""
    root: Path | None = None
    """The folder of the images; None for arrays."""


class Dividing(NamedTuple):
    """What decides about splits that a source lacks, and the source's name as it was given."""

    given: str
    seed: int
    group_by: str | None


def _opened(spec: str | Path, max_broken: int, reading: Reading) -> Opened:
    name, path = str(spec), DATA_SETS.path(spec)
    if path is None and name == "digits":
        return Opened("digits", _digits(reading), flip=False)
    if path is None and name.startswith("torchvision:"):
        dataset = name.removeprefix("torchvision:")
        return Opened(name, open_torchvision(dataset, reading), MIRRORED_KEEPS_CLASS[dataset])
    path = existing(name, path)
    if path.is_dir():
        return Opened(path.resolve().name, open_folder(path, max_broken, reading), flip=True, root=path)
    if path.suffix.lower() == ".npz":
        return Opened(path.stem, open_npz(path, reading), flip=True)
    raise BadInput(f"The data path {path} is a file; expected a folder of class folders, or an .npz file.")


def _labelled(root: Path, labels: Path, max_broken: int, reading: Reading) -> Opened:
    if not root.is_dir():
        raise BadInput(f"--labels {labels}: --data {root} is a file; expected the folder that its paths start from")
    splits = open_labelled(root, labels, BrokenImages(max_broken), reading)
    return Opened(root.resolve().name, splits, flip=True, root=root)


def existing(name: str, path: Path | None) -> Path:
    """`path`, if it exists; otherwise BadInput, which for an unknown name shows the nearest one."""
    if path is None:
        raise BadInput(
            f"The data '{name}' is neither a path nor a known name{nearest(name, ['digits', 'torchvision:NAME'])}"
        )
    try:
        name.encode()
        if path.exists():
            return path
    except UnicodeEncodeError:
        raise BadInput(f"The data path {os.fsencode(name)!r} is not UTF-8; rename the folder.") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"The data path '{name}' cannot be reached ({error}); expected a readable path.") from error
    raise BadInput(
        f"The data path {path} does not exist; expected a folder of class folders, an .npz file or 'digits'."
    )


def _digits(reading: Reading) -> SourceSplits[ArraySplit]:
    # scikit-learn is slow to import, and has no types
    digits = importlib.import_module("sklearn.datasets").load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return SourceSplits(tuple("0123456789"), ArraySplit(images, digits.target, reading=reading))


def _image_data(opened: Opened, dividing: Dividing, division: Division | None) -> ImageData:
    """The source with its missing splits divided off train, or as `division` has them. Raises BadInput."""
    name, source, flip, root = opened
    if division is None:
        whole = source.train
        source = _complete(opened, dividing)
        division = division_of(source, whole, root, dividing.given)
    else:
        source = divided_again(source, division, root, name)
    train = source.train
    assert source.val is not None and source.test is not None
    return ImageData(name, source.classes, train.native_size(), flip, train, source.val, source.test, division)


def _complete(opened: Opened, dividing: Dividing) -> SourceSplits[Any]:
    """The source with all three splits. Raises BadInput for classes with too few images."""
    name, (classes, train, val, test) = opened.name, opened.splits
    missing = [kind for kind, split in (("val", val), ("test", test)) if split is None]
    if missing:
        counts = np.bincount(train.labels, minlength=len(classes))
        rare = int(counts.argmin())
        needed = len(missing) + 1
        if counts[rare] < needed:
            images = "1 training image" if counts[rare] == 1 else f"{counts[rare]} training images"
            raise BadInput(
                f"{name}: the class '{classes[rare]}' has {images}; expected at least {needed}, one of them for "
                f"{' and one for '.join(missing)}: add images, or remove the class."
            )
    if test is None:
        train, test = _divide(train, opened.root, dividing)
    if val is None:
        train, val = _divide(train, opened.root, dividing)
    return SourceSplits(classes, train, val, test)


def _divide(split: S, root: Path | None, dividing: Dividing) -> tuple[S, S]:
    if dividing.group_by is None:
        rest, part = stratified(split.labels, HELD_OUT, dividing.seed)
    else:
        rest, part = stratified_groups(split.labels, groups_of(split, root, dividing.group_by), HELD_OUT, dividing.seed)
    return split.subset(rest), split.subset(part)
