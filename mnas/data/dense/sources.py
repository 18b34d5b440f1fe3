"""Sources of images with masks or boxes (`--data`): the built-in shapes, or a folder, in three splits."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mnas.config import MAX_BROKEN
from mnas.data.dense import coco, shapes, yolo
from mnas.data.dense.checking import checked
from mnas.data.dense.detection import DetectionSplit, boxed_resized
from mnas.data.dense.dividing import complete
from mnas.data.dense.folders import unpacked
from mnas.data.dense.samples import IGNORE_INDEX, WHOLE, Boxes, DenseData, DenseSplit, MemorySplit
from mnas.data.dense.segmentation import masked_resized, open_segmentation
from mnas.data.depth import with_range
from mnas.data.images import BrokenImages, log
from mnas.data.reading import Reading
from mnas.errors import BadInput, nearest
from mnas.io.names import Names

DATA_SETS = Names("built-in data set", lambda text: text == "shapes")
BACKGROUND = "background"
SCARCE = 0.5
"""Where less than this part of the classes occurs in masks without names, the masks may hold something else."""


def load_segmentation(
    spec: str | Path, *, seed: int = 0, max_broken: int = MAX_BROKEN, reading: Reading = WHOLE,
    ignore_index: int = IGNORE_INDEX,
) -> DenseData[Tensor]:  # fmt: skip
    """Open images with masks: `shapes`, a folder of images and masks, or one in Pascal VOC's layout.

    A missing test split, then a missing val split, is 20% of train, determined by `seed`, with each class's share of
    the images. At most `max_broken` faulty images are left out. Raises BadInput.
    """
    root = _folder(spec)
    if root is None:
        return _shapes_masked(reading)
    splits, names = open_segmentation(root, BrokenImages(max_broken), reading, ignore_index)
    name = root.resolve().name
    splits = _with_range(root, splits, [[pair.image for pair in split.files] for split in splits.values()])
    if names is not None:
        splits = {kind: replace(split, num_classes=len(names)) for kind, split in splits.items()}
    good, present = _good(splits, name)
    occurring = sorted({int(one) for found in present.values() for classes in found for one in classes})
    classes = names or tuple(f"class {number}" for number in range(max(occurring, default=0) + 1))
    _check_classes(name, classes, occurring, names is not None)
    good = {kind: replace(split, num_classes=len(classes)) for kind, split in good.items()}
    whole: dict[str, DenseSplit[Tensor]] = {**good}
    train, val, test = complete(whole, present["train"], name, seed)
    return DenseData(name, f"images and masks in {root}", classes, train, val, test, ignore_index)


def load_detection(
    spec: str | Path, *, seed: int = 0, max_broken: int = MAX_BROKEN, reading: Reading = WHOLE
) -> DenseData[Boxes]:
    """Open images with boxes: `shapes`, COCO's json (the file, or a folder with it), or a folder of YOLO's labels.

    Missing splits are divided off as by `load_segmentation`. Raises BadInput.
    """
    path = _folder(spec, files=(".json",))
    if path is None:
        return _shapes_boxed(reading)
    classes, splits = _opened_boxes(path, BrokenImages(max_broken), reading)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    root = path.parent if path.is_file() else path
    splits = _with_range(root, splits, [[one.path for one in split.files] for split in splits.values()])
    good, present = _good(splits, name)
    _check_boxes(name, classes, present["train"])
    whole: dict[str, DenseSplit[Boxes]] = {**good}
    train, val, test = complete(whole, present["train"], name, seed)
    return DenseData(name, f"images and boxes in {path}", classes, train, val, test)


def _opened_boxes(
    path: Path, broken: BrokenImages, reading: Reading
) -> tuple[tuple[str, ...], dict[str, DetectionSplit]]:
    root = path if path.is_file() else unpacked(path, "images", "labels", "annotations", *yolo.DESCRIPTIONS)
    described = root.is_dir() and any((root / name).exists() for name in yolo.DESCRIPTIONS)
    files = {} if described else coco.coco_files(root)
    if files:
        opened = {kind: coco.read_coco(file) for kind, file in files.items()}
        classes = tuple(opened["train"].categories.values())
        base = root.parent if root.is_file() else root
        found = {kind: coco.annotated(file, base, classes, broken) for kind, file in opened.items()}
        return classes, {kind: DetectionSplit(one, broken, reading) for kind, one in found.items()}
    homes = yolo.yolo_homes(root)
    if not homes:
        raise BadInput(
            f"{root}: neither COCO's json nor YOLO's text files are there; expected a json with images, annotations "
            "and categories, or images/ and labels/ with files of equal names, alone or in train/, val/ and test/"
        )
    classes = yolo.yolo_classes(root)
    rows = {kind: yolo.annotated(home, classes, broken) for kind, home in homes.items()}
    return classes, {kind: DetectionSplit(one, broken, reading) for kind, one in rows.items()}


def _folder(spec: str | Path, files: tuple[str, ...] = ()) -> Path | None:
    """The path of a data source, None for `shapes`. Raises BadInput where there is nothing, or no folder."""
    path = DATA_SETS.path(spec)
    if path is None:
        if str(spec) == "shapes":
            return None
        raise BadInput(f"The data '{spec}' is neither a path nor a known name{nearest(str(spec), ['shapes'])}")
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise BadInput(f"The data path '{spec}' cannot be reached ({error}); expected a readable path.") from error
    if not there:
        raise BadInput(f"The data path {path} does not exist; expected a folder of images, or 'shapes'.")
    if not is_folder and path.suffix.lower() not in files:
        raise BadInput(f"The data path {path} is a file; expected a folder{' or a .json of COCO' if files else ''}.")
    return path


def _with_range(root: Path, splits: dict[str, Any], paths: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The splits with the range of values in images of more than 8 bits; of test nothing is read."""
    looked_at = [path for kind, found in zip(splits, paths, strict=True) if kind != "test" for path in found]
    reading = with_range(root, looked_at, splits["train"].reading)
    return {kind: replace(split, reading=reading) for kind, split in splits.items()}


def _good(splits: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, list[NDArray[np.int64]]]]:
    """The splits without faulty images, and the classes in each image; test is not looked at. Raises BadInput."""
    good, present = dict(splits), dict[str, list[NDArray[np.int64]]]()
    for kind, split in splits.items():
        if kind != "test":
            found = checked(split, f"{name}, {kind}")
            good[kind], present[kind] = split.subset(found.rows), found.classes
    return good, present


def _check_classes(name: str, classes: Sequence[str], occurring: Sequence[int], named: bool) -> None:
    """Masks of one class teach nothing. Raises BadInput."""
    if len(occurring) < 2:
        only = f"only the class {occurring[0]}" if occurring else "no class"
        raise BadInput(
            f"{name}: the masks have {only} besides the ignore index; expected at least two: number them 0, 1 and so "
            "on (a mask of 0 and 255 has no foreground, since 255 is ignored: write 1 in its place)"
        )
    lost = [one for number, one in enumerate(classes) if number not in occurring]
    if lost and not named and len(occurring) < SCARCE * len(classes):
        log.warning(
            "%s: of the indices up to %d in the masks only %d occur: are they indices of classes? classes.txt names "
            "them", name, len(classes) - 1, len(occurring),
        )  # fmt: skip
    elif lost:
        log.warning("%s: classes that are in no mask: %s", name, ", ".join(lost[:10]))


def _check_boxes(name: str, classes: Sequence[str], present: Sequence[NDArray[np.int64]]) -> None:
    counts = Counter(int(one) for found in present for one in found)
    if not counts:
        raise BadInput(f"{name}: the training images have no boxes; expected at least one")
    lost = [one for number, one in enumerate(classes, start=1) if number not in counts]
    if lost:
        log.warning("%s: classes without boxes in the training split: %s", name, ", ".join(lost[:10]))


def _shapes_masked(reading: Reading) -> DenseData[Tensor]:
    resize = functools.partial(masked_resized, reading=reading, ignore_index=IGNORE_INDEX)
    train, val, test = (
        MemorySplit(_pixels(scenes, reading), [torch.from_numpy(scene.mask) for scene in scenes], resize, reading)
        for scenes in _scenes()
    )
    return DenseData("shapes", shapes.DESCRIPTION, (BACKGROUND, *shapes.CLASSES), train, val, test)


def _shapes_boxed(reading: Reading) -> DenseData[Boxes]:
    resize = functools.partial(boxed_resized, reading=reading)
    train, val, test = (
        MemorySplit(_pixels(scenes, reading), [scene.boxes for scene in scenes], resize, reading)
        for scenes in _scenes()
    )
    return DenseData("shapes", shapes.DESCRIPTION, shapes.CLASSES, train, val, test)


@functools.cache
def _scenes() -> list[list[shapes.Scene]]:
    """Of train, val and test."""
    return [shapes.render(count, seed) for seed, count in enumerate(shapes.COUNTS.values())]


def _pixels(scenes: Sequence[shapes.Scene], reading: Reading) -> NDArray[np.uint8]:
    """The images (n, h, w, 3), grey for networks of one channel."""
    images = (Image.fromarray(scene.image) for scene in scenes)
    return np.stack([np.asarray(one.convert("L").convert("RGB") if reading.channels == 1 else one) for one in images])
