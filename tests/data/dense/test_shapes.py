"""The rendered set: the same one everywhere, with exact masks and boxes."""

from __future__ import annotations

import numpy as np
import pytest

from mnas.data.dense import shapes
from mnas.data.dense.sources import load_detection, load_segmentation
from mnas.data.reading import Reading

PIXELS = [146700, 11120, 8031, 8732, 9737]
"""By index."""
LABELS = [[3, 3, 4, 3], [4, 1, 1], [1, 1, 2, 4], [4, 3, 3], [4, 1], [2, 4, 3]]


def test_golden() -> None:
    scenes = shapes.render(20, seed=0)
    pixels = np.bincount(np.concatenate([scene.mask for scene in scenes]).ravel())
    assert pixels.tolist() == pytest.approx(PIXELS, abs=10), "but for rounding at the edges"
    assert [scene.boxes.labels.tolist() for scene in scenes[:6]] == LABELS


def test_a_seed_and_a_number_tell_the_picture() -> None:
    first, again, other = shapes.render(3, 5), shapes.render(2, 5), shapes.render(2, 6)
    assert all((a.image == b.image).all() and (a.mask == b.mask).all() for a, b in zip(first, again, strict=False))
    assert not (first[0].image == other[0].image).all()


def test_boxes_are_around_what_the_masks_show() -> None:
    for scene in shapes.render(40, seed=3):
        boxes, labels = scene.boxes.boxes.int().tolist(), scene.boxes.labels.tolist()
        assert 1 <= len(labels) <= shapes.MOST_SHAPES
        covered = np.zeros_like(scene.mask, bool)
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            inside = scene.mask[y1:y2, x1:x2] == label
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            covered[y1:y2, x1:x2] = True
        assert not scene.mask[~covered].any(), "a shape without a box"
        assert set(np.unique(scene.mask)) - {0} == set(labels)


def test_as_data() -> None:
    masked, boxed = load_segmentation("shapes"), load_detection("shapes")
    assert "rendered" in masked.description and masked.description == boxed.description
    assert masked.classes == ("background", *boxed.classes) and len(boxed.classes) == 4
    assert [len(split) for split in (boxed.train, boxed.val, boxed.test)] == [240, 60, 100]
    for row in (0, 59):
        mask, boxes = masked.val.read(row, 96), boxed.val.read(row, 96)
        assert (mask.image == boxes.image).all() and mask.image.shape == (96, 96, 3)
        assert boxed.val.look(row).classes.tolist() == [*map(int, np.unique(boxes.target.labels))]
        assert masked.val.look(row).classes.tolist() == [0, *boxed.val.look(row).classes]
        grey = load_detection("shapes", reading=Reading(channels=1)).val.read(row, 96).image
        assert (grey == grey[..., :1]).all() and grey.std() > 0
        large, wide = boxed.val.read(row, 192), masked.val.read(row, (48, 96))
        assert large.image.shape == (192, 192, 3) and wide.target.shape == (48, 96)
        assert large.target.boxes.equal(2 * boxes.target.boxes)
        assert wide.target.equal(mask.target[1::2]), "the pixel that lies at the centre"
