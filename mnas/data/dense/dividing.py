"""Splits that a source lacks, divided off its training images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.data.dense.samples import DenseSplit
from mnas.data.splits import stratified
from mnas.errors import BadInput

HELD_OUT = 0.2
"""The part of train that becomes a missing split."""


def complete(
    splits: dict[str, DenseSplit[Any]], present: list[NDArray[np.int64]], name: str, seed: int
) -> tuple[DenseSplit[Any], DenseSplit[Any], DenseSplit[Any]]:
    """All three splits. Raises BadInput where there are too few images to divide."""
    missing = [kind for kind in ("test", "val") if kind not in splits]
    if len(present) < 1 + len(missing):
        raise BadInput(
            f"{name}: {len(present)} usable training images; expected at least {1 + len(missing)}, one of them for "
            f"{' and one for '.join(missing)}"
        )
    rows, parts = divided(present, missing, seed)
    divided_off = {kind: splits["train"].subset(part) for kind, part in parts.items()}
    found = {**splits, **divided_off, "train": splits["train"].subset(rows)}
    return found["train"], found["val"], found["test"]


def divided(
    present: list[NDArray[np.int64]], missing: Sequence[str], seed: int
) -> tuple[list[int], dict[str, list[int]]]:
    """The rows that stay, and those of each missing split, given the classes in each image.

    Of each class about the same part of the images, at least one, goes into each split, as far as there are enough.
    """
    rows, parts = np.arange(len(present)), dict[str, list[int]]()
    for kind in missing:
        rest, part = stratified(_rarest(present, rows), HELD_OUT, seed)
        if not len(part):  # no two images have the same rarest class
            rest, part = stratified(np.zeros(len(rows), np.int64), HELD_OUT, seed)
        parts[kind] = rows[part].tolist()
        rows = rows[rest]
    return rows.tolist(), parts


def _rarest(present: list[NDArray[np.int64]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each of these images the class that is in the fewest of them, so that rare ones are in every split."""
    counts = Counter(int(one) for row in rows for one in present[row])
    return np.array([min(map(int, present[row]), key=lambda one: (counts[one], one), default=-1) for row in rows])
