"""A split without the images whose masks or boxes cannot be used, found before any training."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnas.data.dense.samples import DenseSplit, Look, T
from mnas.data.images import BrokenImage, log, quiet_pillow
from mnas.data.loader import default_workers
from mnas.errors import BadInput


class Checked(NamedTuple):
    """What is good in a split."""

    rows: list[int]
    classes: list[NDArray[np.int64]]
    """Of each of these rows: the classes in it."""


def checked(split: DenseSplit[T], name: str) -> Checked:
    """Look at the mask or boxes of every image; what is wrong is named, counted in the log, and left out.

    Pixels of images are not decoded: those that cannot be are left out when they are read. Raises BadInput past the
    split's limit of broken images, or where none is left.
    """
    good, odd, first = Checked([], []), Counter[str](), dict[str, str]()
    before = len(split.broken.reasons)
    with quiet_pillow(), ThreadPoolExecutor(default_workers()) as pool:
        looks = pool.map(lambda row: _look(split, row), range(len(split)))
        try:
            for row, found in enumerate(looks):
                if isinstance(found, BrokenImage):
                    split.broken.add(split.path(row), str(found))
                    continue
                good.rows.append(row)
                good.classes.append(found.classes)
                odd.update(found.oddities)
                for oddity in found.oddities:
                    first.setdefault(oddity, split.path(row))
        finally:
            pool.shutdown(cancel_futures=True)
    skipped = len(split.broken.reasons) - before
    if not good.rows:
        reason = next(reversed(split.broken.reasons.items()), ("", "there are none"))
        raise BadInput(f"{name}: none of its {len(split)} images can be used, such as {reason[0]} ({reason[1]})")
    if skipped:
        log.warning("%s: skipped %d of %d images (limit --max-broken)", name, skipped, len(split))
    for oddity, count in odd.items():
        log.warning("%s: %d %s, such as in %s", name, count, oddity, first[oddity])
    return good


def _look(split: DenseSplit[T], row: int) -> Look | BrokenImage:
    try:
        return split.look(row)
    except BrokenImage as error:
        return error
