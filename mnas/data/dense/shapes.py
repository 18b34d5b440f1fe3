"""The built-in set `shapes`: pictures rendered from two photographs, with exact masks and boxes.

Shapes filled with textures from scikit-learn's two sample photographs, over other parts of the same photographs.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnas.data.dense.samples import Boxes, boxes_of

CLASSES = ("circle", "square", "triangle", "ring")
"""Label 1 and so on, also as indices of masks; 0 is the background."""
SIZE = 96
COUNTS = {"train": 240, "val": 60, "test": 100}
DESCRIPTION = (
    "rendered, not photographed: 1 to 4 shapes (circle, square, triangle, ring) of 96 px images, filled with textures "
    "from the two sample photographs of scikit-learn over other parts of them; masks and boxes are exact; all splits "
    "are cut from the same two photographs"
)
MOST_SHAPES, TRIES = 4, 8
RADII = (0.12, 0.3)
"""Least and largest radius as a part of the image's side."""
VISIBLE = 0.6
"""The part of each shape that others leave visible, at least."""
HOLE = 0.55
"""Radius of a ring's hole, as a part of the ring's."""

Array = NDArray[np.uint8]


class Scene(NamedTuple):
    """A picture with what is in it."""

    image: Array
    """RGB (h, w, 3)."""
    mask: NDArray[np.int32]
    """(h, w): 0, or the class's label."""
    boxes: Boxes
    """Around what is visible of each shape, to the pixel."""


def render(count: int, seed: int, size: int = SIZE) -> list[Scene]:
    """`count` pictures of this side in pixels; the same ones for the same seed."""
    return [_scene(np.random.default_rng([seed, number]), size) for number in range(count)]


@functools.cache
def _photographs() -> list[Array]:
    # scikit-learn is slow to import, and has no types
    found: list[Array] = importlib.import_module("sklearn.datasets").load_sample_images().images
    return found


def _scene(rng: np.random.Generator, size: int) -> Scene:
    owners, labels = _shapes(rng, size)
    image = _texture(rng, size)
    for number in range(1, len(labels) + 1):
        texture = _recoloured(_texture(rng, size), rng)
        image = np.where((owners == number)[..., None], texture, image)
    mask = np.array([0, *labels], np.int32)[owners]
    boxes = [_box_around(owners == number) for number in range(1, len(labels) + 1)]
    return Scene(image, mask, boxes_of(np.array(boxes, np.float64), np.array(labels, np.int64)))


def _shapes(rng: np.random.Generator, size: int) -> tuple[NDArray[np.int64], list[int]]:
    """Which shape each pixel shows, 0 for none, and the label of shape 1 and so on."""
    owners, areas, labels = np.zeros((size, size), np.int64), [0], list[int]()
    wanted = int(rng.integers(1, MOST_SHAPES + 1))
    for _ in range(TRIES * MOST_SHAPES):
        if len(labels) == wanted:
            break
        label = int(rng.integers(1, len(CLASSES) + 1))
        shape = _drawn(CLASSES[label - 1], rng, size)
        after = np.where(shape, len(labels) + 1, owners)
        visible = np.bincount(after.ravel(), minlength=len(labels) + 2)[1:]
        whole = np.array([*areas[1:], shape.sum()])
        if shape.any() and (visible >= VISIBLE * whole).all():
            owners = after
            areas.append(int(shape.sum()))
            labels.append(label)
    return owners, labels


def _drawn(name: str, rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """The pixels (size, size) of a shape somewhere in the picture, all of it inside."""
    radius = rng.uniform(*RADII) * size
    x, y = rng.uniform(radius, size - radius, 2)
    turn = rng.uniform(0, 2 * np.pi)
    down, across = np.mgrid[:size, :size] + 0.5
    down, across = down - y, across - x
    distance = np.hypot(down, across)
    if name == "circle":
        inside = distance <= radius
    elif name == "ring":
        inside = (distance <= radius) & (distance >= HOLE * radius)
    else:  # a regular polygon is where all its sides' half-planes meet
        corners = {"triangle": 3, "square": 4}[name]
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        reach = radius * np.cos(np.pi / corners)
        normals = np.stack([np.cos(angles), np.sin(angles)])
        inside = (across[..., None] * normals[0] + down[..., None] * normals[1] <= reach).all(-1)
    return np.asarray(inside, bool)


def _texture(rng: np.random.Generator, size: int) -> Array:
    """A part of one of the photographs, 1 to 3 times as large as the picture, perhaps mirrored."""
    photographs = _photographs()
    photograph = photographs[int(rng.integers(len(photographs)))]
    side = min(int(rng.uniform(1, 3) * size), *photograph.shape[:2])
    top, left = (int(rng.integers(length - side + 1)) for length in photograph.shape[:2])
    part = photograph[top : top + side, left : left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((size, size), Image.Resampling.BILINEAR))


def _recoloured(texture: Array, rng: np.random.Generator) -> Array:
    """A texture in other colours: a shape of the sky over the same sky could not be seen."""
    gains, shift = rng.uniform(0.5, 1.4, 3), rng.uniform(-40, 40)
    changed: Any = np.clip(texture[..., rng.permutation(3)] * gains + shift, 0, 255)
    return np.asarray(np.rint(changed), np.uint8)


def _box_around(pixels: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
