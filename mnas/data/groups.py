"""Groups of images that must not be torn apart by splits: patients, tracks, bursts of one camera."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.data.splits import FolderSplit
from mnas.errors import BadInput

log = logging.getLogger("mnas.data")


def groups_of(split: Any, root: Path | None, pattern: str) -> NDArray[np.int64]:
    """The number of each image's group, (n,): by the first group of the regular expression, or all that it finds.

    It is searched in the path below `root`; an image in whose path it finds nothing is a group of its own. Raises
    BadInput for a pattern that cannot be used, or finds nothing at all.
    """
    if root is None or not isinstance(split, FolderSplit):
        raise BadInput(f"--group-by {pattern}: is for folders of images, by their paths; arrays have none")
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise BadInput(f"--group-by {pattern}: no regular expression ({error})") from None
    keys: dict[str, int] = {}
    groups, alone = [], 0
    for path in split.paths:
        below = Path(path).relative_to(root).as_posix()
        found = expression.search(below)
        if found is None:
            alone += 1
        key = f"/{below}" if found is None else found[1] if expression.groups else found[0]
        groups.append(keys.setdefault(str(key), len(keys)))
    if alone == len(groups):
        raise BadInput(f"--group-by {pattern}: finds nothing in the paths, such as {below}")
    log.info("--group-by: %d images in %d groups; %d of them without a match, alone", len(groups), len(keys), alone)
    return np.asarray(groups, np.int64)


def stratified_groups(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide images into (rest, part), as sorted indices: `part` has about `fraction` of each class, in whole groups.

    Groups are taken in random order, the large ones first, each where it brings the classes nearer to their share.
    Raises BadInput where all images of a class are in one group, so that a side would lack it.
    """
    counts = np.zeros((int(groups.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (groups, labels), 1)
    for label in np.flatnonzero((counts > 0).sum(0) == 1).tolist():
        raise BadInput(
            f"--group-by: all {counts[:, label].sum()} images of the class with index {label} are in one group, so "
            "that two splits cannot both have some; add images of another group, or remove the class"
        )
    wanted, part, rest = counts.sum(0) * fraction, np.zeros(counts.shape[1]), counts.sum(0)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    chosen = np.zeros(len(counts), bool)
    for lacking in (False, True):  # then a group for each class that the part has none of, the small ones first
        for group in order[::-1] if lacking else order:
            own = counts[group]
            nearer = np.abs(wanted - part - own).sum() < np.abs(wanted - part).sum()
            if chosen[group] or ((rest == own) & (own > 0)).any():
                continue
            if ((part == 0) & (own > 0)).any() if lacking else nearer:
                chosen[group], part, rest = True, part + own, rest - own
    inside = chosen[groups]
    return np.flatnonzero(~inside).astype(np.int64), np.flatnonzero(inside).astype(np.int64)
