"""Boxes in COCO's json: `images`, `categories` and `annotations` with bbox as x, y, width, height."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnas.data.dense.classes import checked_names
from mnas.data.dense.detection import Annotated
from mnas.data.dense.folders import is_below
from mnas.data.images import BrokenImages
from mnas.data.layout import WORDS, split_of
from mnas.data.walk import listed
from mnas.errors import BadInput
from mnas.io.files import parse_json
from mnas.io.strict_yaml import read_text

MAX_BYTES = 1_000_000_000
"""COCO's own largest file has 450 MB."""
FARTHEST = 1e9
"""Coordinates farther out are damaged."""
TRIED = 50
"""Images that tell which folder the names of the files start from."""
KEYS = ("images", "annotations", "categories")
EXPECTED = "expected COCO's json, with the lists images, annotations and categories"


class CocoFile(NamedTuple):
    """One json file."""

    path: Path
    images: list[Any]
    annotations: list[Any]
    categories: dict[int, str]
    """Their numbers, in ascending order, and names."""


def coco_files(root: Path) -> dict[str, Path]:
    """Split -> its json in a folder, in `annotations` in it, or in the splits' folders; empty where there is none.

    The split is told by the file's name, or its folder's; a json alone is `train`. Raises BadInput for two of a split.
    """
    if root.is_file():
        return {"train": root}
    folders = [root, *(root / name for name in listed(root).folders if name == "annotations" or split_of(name))]
    paths = [folder / name for folder in folders for name in listed(folder).others if name.lower().endswith(".json")]
    instances = [path for path in paths if path.name.startswith("instances_")]  # beside captions and keypoints
    paths = instances or paths
    found: dict[str, Path] = {}
    for path in paths:
        kind = _split(path, root) or ("train" if len(paths) == 1 else None)
        if kind not in ("train", "val", "test"):
            continue
        if kind in found:
            raise BadInput(f"{root}: both {found[kind]} and {path} could be the {kind} split; leave one of them there")
        found[kind] = path
    if paths and "train" not in found:
        raise BadInput(f"{root}: which of {', '.join(path.name for path in paths[:5])} is the training split? Put "
                       "'train' into its name, and 'val' and 'test' into those of the others")  # fmt: skip
    return found


def _split(path: Path, root: Path) -> str | None:
    """What a file's name says, or else its folder's."""
    for word in re.findall(r"[a-z]+", path.stem.lower()):
        if word in WORDS:
            return WORDS[word]
    return split_of(path.parent.name) if path.parent != root else None


def read_coco(path: Path) -> CocoFile:
    """The lists of a json file. Raises BadInput where it has another structure."""
    content = parse_json(read_text(path, MAX_BYTES), str(path))
    for key in KEYS:
        if not isinstance(content.get(key), list):
            what = f"'{key}' is no list" if key in content else f"'{key}' is missing"
            raise BadInput(f"{path}: {what}; {EXPECTED}")
    names: dict[int, str] = {}
    for number, one in enumerate(content["categories"]):
        if not isinstance(one, dict) or not _is_id(one.get("id")) or not isinstance(one.get("name"), str):
            raise BadInput(f"{path}: categories[{number}] has no whole number `id`, or no `name`; {EXPECTED}")
        if one["id"] in names:
            raise BadInput(f"{path}: the categories '{names[one['id']]}' and '{one['name']}' have one id, {one['id']}")
        names[one["id"]] = one["name"]
    checked_names(list(names.values()), f"{path}, categories")
    return CocoFile(path, content["images"], content["annotations"], dict(sorted(names.items())))


def annotated(file: CocoFile, root: Path, names: Sequence[str], broken: BrokenImages) -> list[Annotated]:
    """The images of a json file with their boxes; images that are not there or have a wrong annotation are `broken`.

    `names`: the classes, whose labels start from 1. Raises BadInput past the limit, for a path that is not below the
    folder `root`, or where there are no images.
    """
    labels = {number: _label(name, names, file.path) for number, name in file.categories.items()}
    images = _images(file)
    boxes: dict[Any, list[tuple[list[float], int, bool]]] = defaultdict(list)
    wrong: dict[Any, str] = {}
    for number, one in enumerate(file.annotations):
        owner = one.get("image_id") if isinstance(one, dict) else None
        reason = _reason(one, labels)
        if not isinstance(owner, int | str) or owner not in images:
            broken.add(f"{file.path}: annotations[{number}]", f"its image_id {owner!r} is none of the images")
        elif reason:
            wrong.setdefault(owner, f"annotations[{number}] {reason}")
        else:
            x, y, width, height = one["bbox"]
            crowd = bool(one.get("iscrowd", 0))
            boxes[owner].append(([x, y, x + width, y + height], labels[one["category_id"]], crowd))
    home = _home(file.path, root, [str(one["file_name"]) for one in images.values()])
    found = []
    for owner, one in images.items():
        path = home / one["file_name"]
        if not is_below(path, root):
            raise BadInput(f"{file.path}: {one['file_name']} is outside the folder {root}; expected paths below it")
        if owner in wrong:
            broken.add(path, wrong[owner])
        elif not os.path.isfile(path):
            broken.add(path, f"named in {file.path.name}, but there is no such image")
        else:
            found.append(_annotated(str(path), boxes[owner], one))
    if not found:
        raise BadInput(f"{file.path}: none of its {len(images)} images is in {home}")
    return found


def _annotated(path: str, boxes: list[tuple[list[float], int, bool]], one: dict[str, Any]) -> Annotated:
    width, height = one.get("width"), one.get("height")
    stated = _is_number(width) and _is_number(height)
    return Annotated(
        path,
        np.array([corners for corners, _, _ in boxes], np.float64).reshape(-1, 4),
        np.array([label for _, label, _ in boxes], np.int64),
        np.array([crowd for _, _, crowd in boxes], bool),
        (round(width), round(height)) if stated else None,  # type: ignore[arg-type]
    )


def _images(file: CocoFile) -> dict[Any, dict[str, Any]]:
    """Images by their ids. Raises BadInput for another structure, or two of an id."""
    found: dict[Any, dict[str, Any]] = {}
    for number, one in enumerate(file.images):
        if not isinstance(one, dict) or not isinstance(one.get("id"), int | str) or not _is_name(one.get("file_name")):
            raise BadInput(f"{file.path}: images[{number}] has no `id`, or no `file_name`; {EXPECTED}")
        if one["id"] in found:
            raise BadInput(
                f"{file.path}: {found[one['id']]['file_name']} and {one['file_name']} have one id, {one['id']}; "
                "expected one for each image"
            )
        found[one["id"]] = one
    return found


def _reason(one: Any, labels: dict[int, int]) -> str:
    """Why an annotation cannot be used; empty where it can."""
    if not isinstance(one, dict):
        return "is no mapping of keys to values"
    category = one.get("category_id")
    if not _is_id(category) or category not in labels:
        return f"has the category_id {category!r}, which is that of no category"
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has the bbox {str(box)[:60]}; expected x, y, width and height in pixels"
    return ""


def _home(path: Path, root: Path, names: list[str]) -> Path:
    """The folder from which the names of the files start: that in which most of the first ones are."""
    near = [path.parent, path.parent / "images", root, root / "images"]
    for folder in (root, root / "images"):
        near += [folder / name for name in listed(folder).folders] if folder.is_dir() else []
    said = _split(path, root)
    found = {folder: sum(os.path.isfile(folder / name) for name in names[:TRIED]) for folder in dict.fromkeys(near)}
    # a folder of the split's own name is preferred to one with the same files of another split
    return max(found, key=lambda folder: (found[folder], said is not None and said in str(folder.name)))


def _label(name: str, names: Sequence[str], path: Path) -> int:
    if name not in names:
        raise BadInput(f"{path}: has the category '{name}', which the training split lacks; expected its categories")
    return names.index(name) + 1


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST
