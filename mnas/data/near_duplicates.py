"""Images that are in two splits once more: the same picture saved anew, scaled, or the next one of a burst."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mnas.data.loader import batches
from mnas.data.splits import FolderSplit, Split

log = logging.getLogger("mnas.data")

BITS = 3
"""Two pictures are compared where at most so many of the 64 bits of their hashes differ."""
DIFFERENCE = 0.08
"""They are the same where their thumbnails differ by no more than this part of their contrast, on average."""
THUMBNAIL = 16
AT_ONCE = 128
ONES = np.array([bin(word).count("1") for word in range(2**16)], np.uint8)
"""The number of ones in each 16 bits."""


class Fingerprints(NamedTuple):
    """What images are compared by."""

    hashes: NDArray[np.uint64]
    """A bit for each of 8 x 8 places: whether the picture is brighter to the right of it (dHash), (n,)."""
    thumbnails: NDArray[np.float32]
    """Grey levels (n, 3 * 16 * 16), the colours first."""


def fingerprints(split: Split) -> Fingerprints:
    """The fingerprints of a split's images; broken ones are left out."""
    hashes, thumbnails = [np.zeros(0, np.uint64)], [np.zeros((0, 3 * THUMBNAIL**2), np.float32)]
    weights = (1 << np.arange(64, dtype=np.uint64)).astype(np.uint64)
    for raw, _ in batches(split, batch_size=AT_ONCE, size=64, device=torch.device("cpu")):
        pixels = raw.float()
        grey = F.interpolate(pixels.mean(1, keepdim=True), (8, 9), mode="area")[:, 0]
        brighter = (grey[:, :, 1:] > grey[:, :, :-1]).flatten(1).numpy()
        hashes.append((brighter * weights).sum(1, dtype=np.uint64))
        thumbnails.append(F.interpolate(pixels, (THUMBNAIL, THUMBNAIL), mode="area").flatten(1).numpy())
    return Fingerprints(np.concatenate(hashes), np.concatenate(thumbnails))


def warn_of_near_duplicates(train: Split, other: Split, kind: str) -> None:
    """Warn where images of another split are nearly the same as training images, if these are decoded already."""
    if isinstance(train, FolderSplit):
        return
    count = count_near_duplicates(fingerprints(other), fingerprints(train))
    if count:
        log.warning(
            "%d of %d %s images are nearly the same as training images (copies, bursts?), which flatters; remove them, "
            "or keep such images in one split with --group-by", count, len(other), kind,
        )  # fmt: skip


def count_near_duplicates(images: Fingerprints, others: Fingerprints) -> int:
    """How many of `images` are among `others` too, or nearly so."""
    found = 0
    for start in range(0, len(images.hashes), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        near = _bits(images.hashes[part, None] ^ others.hashes[None]) <= BITS
        for row, candidates in zip(range(start, len(images.hashes)), near, strict=False):
            where = np.flatnonzero(candidates)
            apart = np.abs(others.thumbnails[where] - images.thumbnails[row]).mean(1)
            found += bool((apart <= DIFFERENCE * images.thumbnails[row].std()).any())
    return found


def _bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The number of ones in each value."""
    return ONES[values[..., None].view(np.uint16)].sum(-1, dtype=np.uint8)
