"""Random windows of images with their masks or boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mnas.data.augment import MEAN, STD, normalise
from mnas.data.dense import shapes
from mnas.data.dense.augment import Augmentation, augment_boxes, augment_masks, random_maps
from mnas.data.dense.geometry import areas, moved
from mnas.data.dense.samples import boxes_of

STILL = Augmentation(crop=1, ratio=1, flip=False, colour=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(normalised: Tensor) -> Tensor:
    return (normalised * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


def masked(count: int = 64, side: int = 48) -> tuple[Tensor, Tensor]:
    """Pictures whose red tells the mask: two rectangles on a background."""
    masks = torch.zeros(count, side, side, dtype=torch.int32)
    masks[:, 8:30, 6:20] = 1
    masks[:, 20:44, 26:40] = 2
    images = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    images[:, 0] = (masks * 100).to(torch.uint8)
    return images, masks


@pytest.mark.parametrize("size", [24, 48, (40, 60)])
def test_masks_show_what_the_images_show(size: int | tuple[int, int]) -> None:
    images, masks = masked()
    before = images.clone(), masks.clone()
    x, there = augment_masks(images, masks, size, generator=seeded(), augmentation=Augmentation(colour=0))
    assert x.shape[2:] == there.shape[1:] and x.is_contiguous(memory_format=torch.channels_last)
    assert there.dtype == torch.int64 and x.dtype == torch.float32 and not x.requires_grad
    agree = (pixels(x)[:, 0] / 100).round() == there
    assert 0.96 < agree.float().mean() < 1, "but for the borders between classes"
    assert before[0].equal(images) and before[1].equal(masks)
    x, same = augment_masks(images, list(masks), size, generator=seeded(), augmentation=Augmentation(colour=0.4))
    assert same.equal(there), "colours do not change the windows"


def test_boxes_are_around_what_the_images_show() -> None:
    images, masks = masked(side=96)
    boxes = boxes_of(np.array([[6, 8, 20, 30], [26, 20, 40, 44]]), np.array([1, 2]))
    way = Augmentation(colour=0, least_side=0, visible=0)
    x, found = augment_boxes(images, [boxes] * len(images), 96, generator=seeded(), augmentation=way)
    _, there = augment_masks(images, masks, 96, generator=seeded(), augmentation=way)
    lost = 0
    for mask, kept in zip(there, found, strict=True):
        lost += 2 - len(kept.labels)
        for box, label in zip(kept.boxes, kept.labels, strict=True):
            rows, columns = (mask == label).nonzero().unbind(1)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [*box]
            torch.testing.assert_close(box, torch.stack([torch.as_tensor(one) for one in around]).float(), atol=0.51,
                                       rtol=0)  # fmt: skip
    assert 0 < lost < len(images) and x.shape == (64, 3, 96, 96)


def test_least_of_a_box() -> None:
    images, _ = masked(256)
    boxes = boxes_of(np.array([[0.0, 0, 10, 10]]), np.array([1]))
    ways = [Augmentation(colour=0, visible=visible, least_side=0) for visible in (0.0, 0.5)]
    all_of_them, most = (augment_boxes(images, [boxes] * 256, 48, generator=seeded(), augmentation=way)[1]
                         for way in ways)  # fmt: skip
    maps = random_maps(256, (48, 48), 48, generator=seeded(), augmentation=ways[0])
    parts = [float(areas(one.boxes)[0] / areas(moved(boxes.boxes, way))[0]) if len(one.labels) else 0.0
             for one, way in zip(all_of_them, maps, strict=True)]  # fmt: skip
    assert [len(one.labels) for one in most] == [int(part >= 0.5) for part in parts]
    assert 0 < sum(part >= 0.5 for part in parts) < sum(part > 0 for part in parts)
    too_small = Augmentation(colour=0, least_side=30)
    assert not any(len(one.labels) for one in
                   augment_boxes(images, [boxes] * 256, 48, generator=seeded(), augmentation=too_small)[1])  # fmt: skip


def test_without_anything_it_is_the_plain_image() -> None:
    images, masks = masked(4)
    x, there = augment_masks(images, masks, 48, generator=seeded(), augmentation=STILL)
    torch.testing.assert_close(x, normalise(images, 48), atol=1e-3, rtol=0)
    assert there.equal(masks.long())


def test_follows_its_generator() -> None:
    scenes = shapes.render(6, 0)
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    boxes = [scene.boxes for scene in scenes]
    state = torch.get_rng_state()
    (first, boxed), (again, same), (other, _) = (
        augment_boxes(images, boxes, 64, generator=seeded(seed)) for seed in (0, 0, 1)
    )
    assert first.equal(again) and all(a.boxes.equal(b.boxes) for a, b in zip(boxed, same, strict=True))
    assert not first.equal(other) and torch.get_rng_state().equal(state)


def test_windows_are_inside_and_as_wide_as_said() -> None:
    maps = random_maps(2000, (60, 90), (40, 30), generator=seeded(), augmentation=Augmentation(flip=True))
    widths, heights = 30 / maps[:, 0].abs() / 90, 40 / maps[:, 1] / 60
    lefts = torch.minimum(-maps[:, 2] / maps[:, 0], (30 - maps[:, 2]) / maps[:, 0]) / 90
    tops = -maps[:, 3] / maps[:, 1] / 60
    assert lefts.min() >= -1e-9 and (lefts + widths).max() <= 1 + 1e-9 and tops.min() >= -1e-9
    assert (tops + heights).max() <= 1 + 1e-9
    scales, ratios = (widths * heights).sqrt(), widths / heights
    assert 0.49 < scales.min() < 0.52 and 0.97 < scales.max() <= 1
    assert 0.74 < ratios.min() < 0.78 and 1.3 < ratios.max() < 1.34
    assert 0.45 < (maps[:, 0] < 0).double().mean() < 0.55


def test_colours_change_images_each_by_its_own() -> None:
    grey = torch.full((16, 3, 8, 8), 128, dtype=torch.uint8)
    x, _ = augment_masks(grey, torch.zeros(16, 8, 8), 8, generator=seeded(), augmentation=Augmentation(colour=0.5))
    levels = pixels(x).mean((1, 2, 3))
    assert 64 < levels.min() < 96 and 160 < levels.max() < 193 and len(levels.round().unique()) > 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu() -> None:
    images, masks = masked(8)
    x, there = augment_masks(images, masks, 40, generator=seeded())
    on_gpu, moved_there = augment_masks(images.cuda(), masks.cuda(), 40, generator=seeded())
    assert moved_there.cpu().equal(there)
    torch.testing.assert_close(on_gpu.cpu(), x, atol=1e-3, rtol=0)
