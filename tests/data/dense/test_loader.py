"""Batches of images with masks or boxes."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_dense import refuse, write_coco, write_masked

from mnas.data.dense import shapes
from mnas.data.dense.loader import batches, in_memory
from mnas.data.dense.samples import WHOLE, MemorySplit
from mnas.data.dense.segmentation import masked_resized
from mnas.data.dense.sources import load_detection, load_segmentation
from mnas.data.reading import Reading


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_in_order_and_shuffled() -> None:
    scenes, reading = shapes.render(60, 1), functools.partial(masked_resized, reading=WHOLE, ignore_index=255)
    split = MemorySplit(
        np.stack([scene.image for scene in scenes]), [torch.from_numpy(scene.mask) for scene in scenes], reading
    )
    parts = list(batches(split, batch_size=25, size=64))
    assert [len(part.rows) for part in parts] == [25, 25, 10]
    assert [row for part in parts for row in part.rows] == list(range(60))
    assert parts[0].images.shape == (25, 3, 64, 64) and parts[0].images.dtype == torch.uint8
    assert torch.stack(parts[0].targets).shape == (25, 64, 64)
    first, again, other = (
        [part.rows for part in batches(split, batch_size=25, size=64, generator=seeded(seed))] for seed in (0, 0, 1)
    )
    assert first == again != other and [len(rows) for rows in first] == [25, 25]
    assert len(next(batches(split, batch_size=100, size=64, generator=seeded(0))).rows) == 60
    stated = [part.rows for part in batches(split, batch_size=2, size=64, order=np.array([7, 3, 59, 0, 3]))]
    assert stated == [[7, 3], [59, 0], [3]]


@pytest.mark.parametrize("workers", [0, 3])
def test_images_that_are_damaged_are_left_out(tmp_path: Path, workers: int) -> None:
    write_masked(tmp_path, 20)
    path = tmp_path / "images" / "7.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    data = load_segmentation(tmp_path, max_broken=1)
    seen = 0
    for split in (data.train, data.val, data.test):
        for batch in batches(split, batch_size=4, size=16, workers=workers):
            seen += len(batch.rows)
            for row, image, mask in zip(batch.rows, batch.images, batch.targets, strict=True):
                sample = split.read(row, 16)
                assert (sample.image == image.permute(1, 2, 0).numpy()).all() and sample.target.equal(mask)
    assert seen == 19
    assert list(data.train.broken.reasons) == [str(path)]
    other = tmp_path / "images" / "8.jpg"
    other.write_bytes(other.read_bytes()[:-40])
    refuse(lambda: [list(batches(split, batch_size=4, size=16)) for split in (data.train, data.val, data.test)],
           "limit of 1")  # fmt: skip


def test_in_memory(tmp_path: Path) -> None:
    write_coco(tmp_path / "boxes.json", count=10)
    split = load_detection(tmp_path).train
    held = in_memory(split, 24)
    assert isinstance(held, MemorySplit) and len(held) == len(split)
    for row in range(len(split)):
        ours, theirs = held.read(row, 24), split.read(row, 24)
        assert (ours.image == theirs.image).all() and ours.target.boxes.equal(theirs.target.boxes)
    assert held.read(0, 12).target.boxes.tolist() == split.read(0, 12).target.boxes.tolist()
    assert held.subset([1]).read(0, 24).target.boxes.equal(held.read(1, 24).target.boxes)
    assert in_memory(split, 24, limit_bytes=1000) is split
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"")
    refuse(lambda: in_memory(split, 24), "images could be decoded")


def test_ignored_index_of_ones_own_stays(tmp_path: Path) -> None:
    data = load_segmentation(write_masked(tmp_path), ignore_index=9, reading=Reading(fit="pad"))
    held = in_memory(data.train, (12, 16))
    assert held.read(0, 16).target[0].tolist() == [9] * 16
