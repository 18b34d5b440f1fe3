"""Boxes in YOLO's text files: a row for each box, with its class from 0 and centre, width and height as parts of the
image's sides; `labels` beside `images`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.data.dense.classes import checked_names, named_classes
from mnas.data.dense.detection import Annotated
from mnas.data.dense.folders import KINDS, Home, homes_of, is_below, pairs
from mnas.data.images import BrokenImage, BrokenImages
from mnas.errors import BadInput
from mnas.io.strict_yaml import load_yaml, read_text

FARTHEST = 2.0
"""Coordinates farther out are pixels, or damaged."""
DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")


def yolo_classes(root: Path) -> tuple[str, ...]:
    """The names of the classes, by data.yaml or classes.txt. Raises BadInput where there is neither."""
    for file in (root / name for name in DESCRIPTIONS):
        if file.exists() and (names := _description(file).get("names")) is not None:
            return _names(names, file)
    found = named_classes(root / "classes.txt") or named_classes(root / "labels" / "classes.txt")
    if found is None:
        raise BadInput(
            f"{root}: has no names of classes; expected data.yaml with `names: [cat, dog]`, or "
            "classes.txt with one a line"
        )
    return found


def _names(names: Any, file: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise BadInput(f"{file}: names has the numbers {', '.join(map(str, names))}; expected 0, 1, 2 and so on")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise BadInput(f"{file}: names is no list of names, nor numbers from 0 with names")
    return checked_names([str(name) for name in names], f"{file}, names")


def _description(file: Path) -> dict[str, Any]:
    content = load_yaml(file)
    if not isinstance(content, dict):
        raise BadInput(f"{file}: expected a mapping such as `names: [cat, dog]`, got {type(content).__name__}")
    return content


def yolo_homes(root: Path) -> dict[str, Home]:
    """The folders of each split: those that data.yaml names, where they are there, or else by their names.

    Raises BadInput for a folder that is outside the root.
    """
    for file in (root / name for name in DESCRIPTIONS):
        if file.exists():
            said = _description(file)
            homes = {kind: home for kind in KINDS if (home := _home(root, said, kind, file)) is not None}
            if "train" in homes:
                return homes
    return homes_of(root, "labels")


def _home(root: Path, said: dict[str, Any], kind: str, file: Path) -> Home | None:
    """The folders of a split as data.yaml has them: below its `path`, or below its own folder."""
    value = said.get(kind, said.get("valid") if kind == "val" else None)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadInput(f"{file}: {kind} is {str(value)[:60]}; expected one folder of images")
    # data.yaml often has paths from where it was written, such as ../train/images
    below = Path(*[part for part in Path(value).parts if part not in ("..", "/")])
    for base in (root / str(said.get("path", "")), root):
        for folder in (base / value, base / below):
            if os.path.isdir(folder) and is_below(folder, root):
                return Home(folder, _labels(folder))
    return None


def _labels(images: Path) -> Path:
    """The folder of labels: the last `images` of the path becomes `labels`; beside images of another name, they too."""
    parts = list(images.parts)
    if "images" not in parts:
        return images / "labels" if (images / "labels").is_dir() else images
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def annotated(home: Home, names: Sequence[str], broken: BrokenImages) -> list[Annotated]:
    """The images of a split with their boxes; those with no text, or a wrong one, are `broken`.

    Raises BadInput past the limit, or where there are none.
    """
    found = []
    for image, target in pairs(home, ".txt", broken, ("classes",)):
        try:
            boxes, labels = _rows(Path(target), len(names))
        except BrokenImage as error:
            broken.add(image, str(error))
        else:
            crowd = np.zeros(len(labels), bool)
            found.append(Annotated(image, boxes, labels, crowd, relative=True))
    if not found:
        raise BadInput(f"{home.targets}: none of the files has usable boxes for the images in {home.images}")
    return found


def _rows(file: Path, classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes (n, 4) as x1, y1, x2, y2 in parts of the sides, and labels (n,) from 1. Raises BrokenImage."""
    try:
        lines = read_text(file).splitlines()
    except BadInput as error:
        raise BrokenImage(str(error)) from None
    boxes, labels = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            label, box = _row(line.split(), classes, f"{file.name}, line {number}")
            boxes.append(box)
            labels.append(label)
    centred = np.array(boxes, np.float64).reshape(-1, 4)
    centres, halves = centred[:, :2], centred[:, 2:] / 2
    return np.concatenate([centres - halves, centres + halves], 1), np.array(labels, np.int64)


def _row(words: list[str], classes: int, where: str) -> tuple[int, list[float]]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != 5 or not all(map(math.isfinite, values)):
        polygon = ", or the polygon of an object" * (len(values) > 6)
        raise BrokenImage(
            f"{where}: {len(words)} words{polygon}; expected 5 numbers: class, centre x and y, width, height"
        )
    label, box = values[0], values[1:]
    if label != int(label) or not 0 <= label < classes:
        raise BrokenImage(f"{where}: the class {words[0]}; expected 0 to {classes - 1}")
    if max(map(abs, box)) > FARTHEST:
        raise BrokenImage(
            f"{where}: {' '.join(words[1:])} are no parts of the image's sides; expected 0 to 1, not pixels"
        )
    return int(label) + 1, box
