"""How long images get a network's shape, where that is not stated: as a probe on the validation split says."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mnas.data.neighbours import is_worse, nearest_classes, small_pictures
from mnas.data.reading import FITS, Reading
from mnas.data.sources import ASPECT, ImageData
from mnas.data.splits import ArraySplit, Split, limited
from mnas.io.size import Size

log = logging.getLogger("mnas.data")

IMAGES, ASKED = 2000, 1000
"""Training images, at most, among which so many validation images look for their neighbours."""
FEWEST = 20
"""Fewer validation images say nothing."""


def with_fit_decided(data: ImageData, shape: Size = 1) -> ImageData:
    """`data` read by `pad` or `squeeze` where the images are long and the probe knows more of them so; said in the log.

    `shape` is the network's. Images that are nearly of that shape are cropped.
    """
    if not data.train.aspect_ratio(shape) > ASPECT or len(data.val) < FEWEST:
        return data
    right = {fit: _recognised(_read_as(data, replace(data.train.reading, fit=fit)), shape) for fit in FITS}
    best = max(FITS, key=lambda fit: right[fit].mean())
    if not is_worse(right["crop"], right[best]):
        return data
    found = {"pad": "padded", "squeeze": "squeezed"}[best]
    log.info(
        "%s: the images are %s to the network's shape (--fit %s): nearest neighbours recognise %.0f%% of %d validation "
        "images so, and %.0f%% of their central parts (--fit crop)", data.name, found, best, 100 * right[best].mean(),
        len(right[best]), 100 * right["crop"].mean(),
    )  # fmt: skip
    return _read_as(data, replace(data.train.reading, fit=best))


def _recognised(data: ImageData, shape: Size) -> NDArray[np.bool_]:
    """Whether the class of each validation image is that of its neighbours among the training images."""
    known, labels = small_pictures(limited(data.train, IMAGES, 0), shape)
    asked, wanted = small_pictures(limited(data.val, ASKED, 0), shape)
    return nearest_classes(known, labels, asked) == wanted


def _read_as(data: ImageData, reading: Reading) -> ImageData:
    train, val, test = (_split_as(split, reading) for split in (data.train, data.val, data.test))
    division = None if data.division is None else data.division.model_copy(update={"reading": reading})
    size = train.native_size()  # type: ignore[attr-defined]  # of arrays and folders, which alone may be long
    return replace(data, train=train, val=val, test=test, division=division, image_size=size)


def _split_as(split: Split, reading: Reading) -> Split:
    changed = copy.copy(split)
    changed.reading = reading
    if isinstance(changed, ArraySplit):
        changed.resident = {}
    return changed
