"""Boxes, masks and pixels move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnas.data.dense.geometry import (
    areas,
    fitting,
    inside,
    inverse,
    mask_fitted,
    mask_moved,
    moved,
    moved_inside,
    pixels_moved,
)  # fmt: skip
from mnas.data.dense.samples import boxes_of
from mnas.data.images import placed
from mnas.data.reading import FITS, Fit, Reading

side = st.integers(8, 60)
scale = st.floats(0.3, 3) | st.floats(-3, -0.3)
shift = st.floats(-40, 40)
maps = st.tuples(scale, scale, shift, shift).map(lambda four: torch.tensor(four, dtype=torch.float64))


@st.composite
def boxes(draw: st.DrawFn) -> Tensor:
    count = draw(st.integers(1, 4))
    corners = draw(st.lists(st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(0.5, 50)] * 2), min_size=count,
                            max_size=count))  # fmt: skip
    return torch.tensor([[x, y, x + width, y + height] for x, y, width, height in corners], dtype=torch.float64)


@given(boxes(), maps)
def test_back_again(found: Tensor, one_map: Tensor) -> None:
    torch.testing.assert_close(moved(moved(found, one_map), inverse(one_map)), found, atol=1e-9, rtol=1e-9)


@given(boxes(), maps)
def test_areas_grow_by_both_scales(found: Tensor, one_map: Tensor) -> None:
    there = moved(found, one_map)
    assert (there[:, 2:] > there[:, :2]).all()
    torch.testing.assert_close(areas(there), areas(found) * one_map[0].abs() * one_map[1].abs())


@given(boxes(), side, side)
def test_inside(found: Tensor, height: int, width: int) -> None:
    cut = inside(found, (height, width))
    assert (cut >= 0).all() and (cut[:, 0::2] <= width).all() and (cut[:, 1::2] <= height).all()
    assert (areas(cut) <= areas(found)).all() and inside(cut, (height, width)).equal(cut)


@given(boxes(), maps, st.floats(0.05, 1), st.floats(0, 10))
def test_kept_boxes_are_visible(found: Tensor, one_map: Tensor, visible: float, least: float) -> None:
    given_boxes = boxes_of(found.numpy(), np.arange(len(found)) + 1)
    kept = moved_inside(given_boxes, one_map, 40, visible=visible, least=least)
    whole = areas(moved(given_boxes.boxes, one_map))[kept.labels - 1]
    assert (areas(kept.boxes) > 0).all() and (areas(kept.boxes) >= visible * whole * (1 - 1e-6)).all()
    assert (kept.boxes[:, 2:] - kept.boxes[:, :2] >= least).all()
    everything = moved_inside(given_boxes, one_map, 40)
    lost = set(range(1, len(found) + 1)) - set(everything.labels.tolist())
    gone = inside(moved(given_boxes.boxes, one_map), 40)
    assert all(areas(gone[label - 1]) == 0 for label in lost)


@settings(max_examples=60)
@given(side, side, side, side, st.sampled_from(FITS), st.data())
def test_masks_and_boxes_are_fitted_alike(
    width: int, height: int, across: int, down: int, fit: Fit, data: st.DataObject
) -> None:
    """The pixels of a rectangle in the fitted mask are those whose centres are in the fitted box."""
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    mask = torch.zeros(height, width, dtype=torch.int32)
    mask[y1:y2, x1:x2] = 1
    reading, size = Reading(fit=fit), (down, across)
    there = mask_fitted(mask, placed(width, height, size, reading), size, 255)
    assert there.shape == size and set(there.unique().tolist()) <= {0, 1, 255}
    assert (255 not in there) or fit == "pad"
    box = boxes_of(np.array([[x1, y1, x2, y2]]), np.array([1]))
    kept = moved_inside(box, fitting(width, height, size, reading), size)
    rows, columns = (there == 1).nonzero().unbind(1)
    if not len(kept.labels):
        assert not len(rows)
        return
    left, top, right, bottom = kept.boxes[0].tolist()
    assert len(rows) == sum(left + 1e-4 < x + 0.5 < right - 1e-4 for x in range(across)) * sum(
        top + 1e-4 < y + 0.5 < bottom - 1e-4 for y in range(down)
    ) or _on_an_edge(kept.boxes[0])
    if len(rows):
        assert left - 1e-3 <= columns.min() + 0.5 and columns.max() + 0.5 <= right + 1e-3
        assert top - 1e-3 <= rows.min() + 0.5 and rows.max() + 0.5 <= bottom + 1e-3


def _on_an_edge(box: Tensor) -> bool:
    """Whether a side goes through the centres of pixels: rounding decides then on which side they are."""
    return bool(((box - 0.5 - (box - 0.5).round()).abs() < 1e-3).any())


@pytest.mark.parametrize("mirror", [False, True])
def test_pixels_go_where_masks_go(mirror: bool) -> None:
    picture = torch.arange(8.0).repeat_interleave(4).expand(2, 3, 16, 32).contiguous()  # 8 stripes
    window = torch.tensor([2.0, 1, -16, 0] if not mirror else [-2.0, 1, 48, 0], dtype=torch.float64)
    ways = torch.stack([torch.tensor([1.0, 1, 0, 0], dtype=torch.float64), window])
    pixels = pixels_moved(picture, ways, (16, 32))
    torch.testing.assert_close(pixels[0], picture[0], atol=1e-4, rtol=0)
    stripes = mask_moved(picture[:, 0].int(), ways, (16, 32))
    assert stripes[0].equal(picture[0, 0].int())
    assert stripes[1, 0, ::8].tolist() == ([2, 3, 4, 5] if not mirror else [5, 4, 3, 2])
    middles = pixels[1, 0, 5, 4::8]  # far from other stripes
    torch.testing.assert_close(middles, stripes[1, 5, 4::8].float(), atol=1e-4, rtol=0)


def test_borders_are_of_no_class() -> None:
    mask = torch.ones(4, 8, dtype=torch.int32)
    there = mask_fitted(mask, placed(8, 4, 8, Reading(fit="pad")), 8, 255)
    assert there[:, 0].tolist() == [255] * 2 + [1] * 4 + [255] * 2
    assert mask_fitted(mask, placed(8, 4, 8, Reading(fit="crop")), 8, 255).unique().tolist() == [1]
