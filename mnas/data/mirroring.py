"""Whether mirrored images keep their class: found out from the names of the classes and the images themselves."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import replace

import numpy as np

from mnas.data.neighbours import SIDE, is_worse, nearest_classes, small_pictures
from mnas.data.sources import ImageData
from mnas.data.splits import limited, stratified

log = logging.getLogger("mnas.data")

IMAGES = 2000
"""Training images, at most, on which the probe looks."""
ASKED, FEWEST = 0.3, 20
"""The part of them that is looked up among the others, and the fewest that say anything."""
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
    pixels, labels = small_pictures(sample)
    known, asked = stratified(labels, ASKED, 0)
    if len(asked) < FEWEST:
        return None
    mirrored = pixels[known].reshape(-1, 3, SIDE, SIDE)[..., ::-1].reshape(len(known), -1)
    plain = nearest_classes(pixels[known], labels[known], pixels[asked])
    both = nearest_classes(np.concatenate([pixels[known], mirrored]), np.tile(labels[known], 2), pixels[asked])
    right, then_right = plain == labels[asked], both == labels[asked]
    lost = float(right.mean() - then_right.mean())
    signs = all(re.fullmatch("[0-9]|[A-Za-z]", name) for name in data.classes) and len(data.classes) > FEW_SIGNS
    if lost <= 0 or not (signs or is_worse(then_right, right)):
        return None
    now_wrong = right & ~then_right
    confused = Counter(zip(labels[asked][now_wrong].tolist(), both[now_wrong].tolist(), strict=True))
    first, second = (data.classes[label] for label in confused.most_common(1)[0][0])
    return (
        f"beside mirrored images, nearest neighbours recognise {100 * lost:.1f} points fewer of {len(asked)} training "
        f"images, such as '{first}', which they take for '{second}'"
    )
