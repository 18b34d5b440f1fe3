"""What the folders of a data set are: splits, the classes in them, or neither."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from mnas.data.walk import listed
from mnas.errors import BadInput

log = logging.getLogger("mnas.data")

WORDS = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
    **dict.fromkeys(("pred", "predict", "prediction", "unlabelled", "unlabeled"), "unlabelled"),
}
"""What a word in a folder's name says that it holds."""
FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "split", "folder", "dir"}
FOLD = re.compile(r"(fold|cv|part|split)s?[\W_]*\d+", re.IGNORECASE)

Homes = dict[str, list[Path]]
"""The folders of each class."""


def layout_of(root: Path, known: frozenset[str] = frozenset()) -> dict[str, Homes]:
    """The classes of each split of a folder: train, perhaps val and test. No image is opened. Raises BadInput.

    With `known` classes, there need not be a training split, and a single folder may be one of them.
    """
    found = listed(root)
    if len(found.folders) == 1 and not found.images and found.folders[0] not in known:
        only = root / found.folders[0]
        if split_of(only.name) is None and listed(only).folders:
            log.info("the classes are read from %s", only)
            return layout_of(only, known)
    kinds = {name: split_of(name, _common(found.folders)) for name in found.folders if name not in known}
    homes = _split_homes(root, kinds, needed=not known)
    if homes is None:
        _refuse_folds(root, found.folders)
        return {"train": _classes(root, root)}
    splits = {}
    for kind, home in homes.items():
        inside = _unpacked(home)
        within = listed(inside)
        if not within.folders and kind == "test" and within.images:
            log.warning("left out %s: its %d images are unlabelled, without class folders", home, len(within.images))
            continue
        splits[kind] = _classes(inside, home)
    return splits


def split_of(name: str, common: frozenset[str] = frozenset()) -> str | None:
    """The split that a folder's name speaks of: train, val, test or unlabelled; None where it is no split's name.

    Words that all folders beside it have in `common` say nothing, nor do FILLERS.
    """
    said = [word for word in _words(name) if word not in FILLERS and word not in common]
    return WORDS.get(said[0]) if len(said) == 1 else None


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]


def _common(names: Sequence[str]) -> frozenset[str]:
    if len(names) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(_words(name)) for name in names)) - WORDS.keys()


def _split_homes(root: Path, kinds: dict[str, str | None], needed: bool) -> dict[str, Path] | None:
    """The folder of each split; None where the folders are classes. A class named 'train' is told by its images.

    `needed`: there must be a training split.
    """
    named = [name for name, kind in kinds.items() if kind is not None]
    train = [name for name in named if kinds[name] == "train"]
    if not train and not needed:
        train = [name for name in named if kinds[name] != "unlabelled"]
    if not train:
        if named and len(named) == len(kinds) and listed(root / named[0]).folders:
            raise BadInput(
                f"{root} has {', '.join(named)} but no 'train' folder; add one, with a folder for each class."
            )
        return None
    within = listed(root / train[0])
    if not within.folders or within.images:
        if len(named) == len(kinds) and len({kinds[name] for name in named}) > 1:
            raise BadInput(
                f"{root}: {', '.join(named)} are named like splits, but {root / train[0]} has images directly in it; "
                f"expected a folder for each class, such as {root / train[0]}/cat/1.jpg."
            )
        return None
    homes: dict[str, Path] = {}
    for name, kind in kinds.items():
        if kind is None or kind == "unlabelled":
            log.warning("ignored %s: only train, val and test folders are read", root / name)
        elif kind in homes:
            raise BadInput(f"{root} has both '{homes[kind].name}' and '{name}'; expected one {kind} folder.")
        else:
            homes[kind] = root / name
    return homes


def _unpacked(home: Path) -> Path:
    """The folder with the classes of a split: archives often hold train/train/CLASS or train/images/CLASS."""
    found = listed(home)
    while len(found.folders) == 1 and not found.images:
        inside = listed(home / found.folders[0])
        if not inside.folders or inside.images:
            break
        home, found = home / found.folders[0], inside
    return home


def _classes(folder: Path, home: Path) -> Homes:
    """The classes in a folder: names in two Unicode forms are one. Raises BadInput where there are none."""
    found = listed(folder)
    if not found.folders:
        content = f"{len(found.images)} images directly in it" if found.images else "no folders in it"
        raise BadInput(f"{home} has {content}; expected one folder of images for each class, such as {home}/cat/1.jpg.")
    junk = [name for name in found.junk if listed(folder / name).images]
    if junk:
        log.warning("left out %s in %s: names that systems and tools give, not classes", ", ".join(junk), folder)
    if found.images:
        log.warning("left out %d images directly in %s: they are of no class", len(found.images), folder)
    classes: Homes = {}
    for name in _without_copies(folder, found.folders):
        classes.setdefault(unicodedata.normalize("NFC", name), []).append(folder / name)
    return dict(sorted(classes.items()))


def _without_copies(folder: Path, names: Sequence[str]) -> Iterable[str]:
    """`names` without a folder that holds all the others once more, as a badly packed archive does."""
    if len(names) < 3:
        return names
    kept = []
    for name in names:
        within = listed(folder / name)
        if not within.images and set(within.folders) >= set(names) - {name}:
            log.warning("left out %s: it holds the classes beside it once more", folder / name)
        else:
            kept.append(name)
    return kept


def _refuse_folds(root: Path, names: Sequence[str]) -> None:
    if len(names) > 1 and all(FOLD.fullmatch(name) and listed(root / name).folders for name in names):
        raise BadInput(
            f"{root}: {', '.join(names[:5])} are parts of a data set, each with the classes in it, not classes; put "
            "them under train/, val/ and test/, such as train/CLASS/1.jpg, or name one of them."
        )
