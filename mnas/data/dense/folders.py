"""Folders with images and, beside them, what is known of each: where they are, and which belong together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mnas.data.images import SUFFIXES, BrokenImages, log
from mnas.data.layout import split_of
from mnas.data.walk import images_below, left_out_words, listed
from mnas.errors import BadInput

KINDS = ("train", "val", "test")


class Home(NamedTuple):
    """The folders of one split."""

    images: Path
    targets: Path
    """Of masks, or of labels."""


class Pair(NamedTuple):
    """An image's file, and that of its mask or labels."""

    image: str
    target: str


def unpacked(root: Path, *names: str) -> Path:
    """The folder in which there is anything of these names: archives often hold one folder, and that the data."""
    found = listed(root)
    while not any((root / name).exists() for name in names) and len(found.folders) == 1 and not found.images:
        inside = root / found.folders[0]
        if split_of(inside.name) is not None or inside.name == "images":
            break
        root, found = inside, listed(inside)
    return root


def homes_of(root: Path, targets: str) -> dict[str, Home]:
    """The folders of each split with images and `targets` in it; without splits all are `train`. Empty for none.

    `train/images` beside `train/masks`, `images/train` and `masks/train`, or `images` and `masks` alone.
    """
    if (root / "images").is_dir() and (root / targets).is_dir():
        inner = _splits(root / "images", listed(root / "images").folders)
        homes = {kind: Home(root / "images" / name, root / targets / name) for kind, name in inner.items()}
        return homes or {"train": Home(root / "images", root / targets)}
    found = _splits(root, listed(root).folders)
    homes = {kind: Home(root / name / "images", root / name / targets) for kind, name in found.items()}
    return {kind: home for kind, home in homes.items() if home.images.is_dir()}


def _splits(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Split -> the name of its folder. Raises BadInput for two of a split, or splits without train."""
    found: dict[str, str] = {}
    for name in names:
        kind = split_of(name)
        if kind not in KINDS:
            continue
        if kind in found:
            raise BadInput(f"{root} has both '{found[kind]}' and '{name}'; expected one {kind} folder.")
        found[kind] = name
    if found and "train" not in found:
        raise BadInput(f"{root} has {', '.join(found.values())} but no 'train' folder; add one.")
    return found


def pairs(home: Home, suffix: str, broken: BrokenImages, others: Collection[str] = ()) -> list[Pair]:
    """The images of a split, each with the file of its name and this suffix; those without are `broken`.

    `others`: names without suffix of files that belong to no image.

    Raises BadInput past the limit, and where no two files belong together.
    """
    for folder in home:
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder; expected one beside {home.images}, with a file for each image")
    left_out = Counter[str]()
    images = by_stem(home.images, images_below(home.images, left_out), broken)
    targets = by_stem(home.targets, files_below(home.targets), broken, suffix)
    targets = {stem: path for stem, path in targets.items() if stem not in others}
    if left_out:
        log.warning("%s: left out files that mnas does not read: %s", home.images, left_out_words(left_out))
    both = sorted(images.keys() & targets.keys())
    if not both:
        example = home.targets / f"{next(iter(images), 'a')}{suffix}"
        raise BadInput(
            f"{home.images}: no image has a file of its name in {home.targets}; expected {suffix} files there, such as "
            f"{example} (images: {len(images)}, files: {len(targets)})"
        )
    for stem in sorted(images.keys() - targets.keys()):
        beside = _beside(home.targets / stem) if home.targets != home.images else []
        instead = f", only {beside[0]}" if beside else ""
        broken.add(images[stem], f"there is no {home.targets / f'{stem}{suffix}'}{instead}")
    for stem in sorted(targets.keys() - images.keys()):
        broken.add(targets[stem], f"there is no image of its name in {home.images}")
    return [Pair(images[stem], targets[stem]) for stem in both]


def by_stem(folder: Path, paths: Iterable[str], broken: BrokenImages, suffix: str | None = None) -> dict[str, str]:
    """Paths by their part below the folder without the suffix; of two images of one name, the first."""
    found: dict[str, str] = {}
    for path in paths:
        stem, ending = os.path.splitext(Path(path).relative_to(folder).as_posix())
        if suffix is not None and ending.lower() != suffix:
            continue
        if found.setdefault(stem, path) != path:
            broken.add(path, f"another file has the same name: {found[stem]}")
    return found


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> list[str]:
    """The paths of all files in and below a folder; a link to a folder `above` is not followed."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return []
    found = listed(folder)
    paths = [str(folder / name) for name in sorted([*found.images, *found.others])]
    for name in found.folders:
        paths += files_below(folder / name, above | {here})
    return paths


def _beside(path: Path) -> list[str]:
    """The names of files that differ from a path by their suffix alone."""
    if not path.parent.is_dir():
        return []
    return [name for suffix in sorted(SUFFIXES) if (path.parent / (name := f"{path.name}{suffix}")).is_file()]


def is_below(path: str | Path, root: Path) -> bool:
    """Whether a path, `..` in it followed, lies below a folder."""
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root))
