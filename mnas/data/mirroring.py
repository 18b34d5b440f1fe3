"""Whether mirrored images keep their class: found out from the names of the classes and the images themselves."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mnas.data.loader import batches
from mnas.data.sources import ImageData
from mnas.data.splits import Split, limited, stratified

log = logging.getLogger("mnas.data")

IMAGES = 2000
"""Training images, at most, on which the probe looks."""
SIDE = 16
"""Their side, in pixels, for the probe."""
NEIGHBOURS = 3
ASKED, FEWEST = 0.3, 20
"""The part of them that is looked up among the others, and the fewest that say anything."""
LOST, ERRORS = 0.05, 3.0
"""Mirroring is left off where it costs the probe more accuracy than this, and more than so many standard errors."""
FEW_SIGNS = 4
"""Up to so many classes with names of one character may be anything: grades, for instance."""
SIDES = [
    pair for one, other in (("left", "right"), ("l", "r"), ("links", "rechts"), ("gauche", "droite"),
                            ("izquierda", "derecha"), ("sinistra", "destra"))
    for pair in ((one, other), (other, one))
]  # fmt: skip


def with_mirroring_decided(data: ImageData) -> ImageData:
    """`data` with `flip` off where mirrored images look like another class; the log says which, and why."""
    if not data.flip:
        return data
    reason = _by_names(data.classes) or _by_images(data)
    if reason is None:
        return data
    log.info("images are not mirrored: %s (--flip mirrors them all the same)", reason)
    return replace(data, flip=False)


def _by_names(classes: tuple[str, ...]) -> str | None:
    """The reason that the classes' names give; None where they give none."""
    words = {name: _words(name) for name in classes}
    for name, said in words.items():
        for side, other in SIDES:
            mirrored = [other if word == side else word for word in said]
            twin = next((twin for twin, its in words.items() if side in said and its == mirrored), None)
            if twin is not None:
                return f"the classes '{name}' and '{twin}' are each other's mirror images by their names"
    return None


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]


def _by_images(data: ImageData) -> str | None:
    """The reason that the training images give: neighbours know their classes less well beside mirrored ones.

    Where the classes are called like digits or letters, the least loss is enough.
    """
    sample = limited(data.train, IMAGES, 0)
    pixels, labels = _small(sample)
    known, asked = stratified(labels, ASKED, 0)
    if len(asked) < FEWEST:
        return None
    mirrored = pixels[known].reshape(-1, 3, SIDE, SIDE)[..., ::-1].reshape(len(known), -1)
    plain = _nearest(pixels[known], labels[known], pixels[asked])
    both = _nearest(np.concatenate([pixels[known], mirrored]), np.tile(labels[known], 2), pixels[asked])
    right, then_right = plain == labels[asked], both == labels[asked]
    lost = float(right.mean() - then_right.mean())
    error = math.sqrt(float((right != then_right).mean()) / len(asked))
    signs = all(re.fullmatch("[0-9]|[A-Za-z]", name) for name in data.classes) and len(data.classes) > FEW_SIGNS
    if lost <= 0 or not (signs or (lost > LOST and lost > ERRORS * error)):
        return None
    now_wrong = right & ~then_right
    confused = Counter(zip(labels[asked][now_wrong].tolist(), both[now_wrong].tolist(), strict=True))
    first, second = (data.classes[label] for label in confused.most_common(1)[0][0])
    return (
        f"beside mirrored images, nearest neighbours recognise {100 * lost:.1f} points fewer of {len(asked)} training "
        f"images, such as '{first}', which they take for '{second}'"
    )


def _small(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Standardised pixels (n, 3 * SIDE * SIDE), the colours first, and the labels (n,)."""
    parts, labels = [], []
    for raw, its in batches(split, batch_size=256, size=2 * SIDE, device=torch.device("cpu")):
        parts.append(F.interpolate(raw.float(), (SIDE, SIDE), mode="area").flatten(1))
        labels.append(its)
    pixels = torch.cat(parts)
    pixels = pixels - pixels.mean(1, keepdim=True)
    return F.normalize(pixels).numpy(), torch.cat(labels).numpy()


def _nearest(
    known: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The most frequent class among the nearest neighbours of each image, the nearest one's where they differ."""
    order = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = labels[order]
    counts = (votes[:, :, None] == votes[:, None, :]).sum(2)
    return votes[np.arange(len(votes)), counts.argmax(1)]
