"""Where the pixels of an image go when it is fitted, cut or mirrored, and masks and boxes with them.

All that is done to an image moves its two axes alone: x becomes scale_x * x + shift_x, y likewise, in pixels whose
corners have whole numbers. A map is these four numbers: (scale_x, scale_y, shift_x, shift_y); a negative scale mirrors.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mnas.data.augment import within
from mnas.data.dense.samples import Boxes
from mnas.data.images import Placed, placed
from mnas.data.reading import Reading
from mnas.io.size import Size, sides


def fitting(width: int, height: int, size: Size, reading: Reading) -> Tensor:
    """The map (4,) from an upright image's pixels to those of a network's input."""
    return map_of(placed(width, height, size, reading))


def map_of(place: Placed) -> Tensor:
    """The map (4,), float64, of an image that is placed so."""
    (left, top, right, bottom), (across, down), (x, y) = place
    scale_x, scale_y = across / (right - left), down / (bottom - top)
    return torch.tensor([scale_x, scale_y, x - scale_x * left, y - scale_y * top], dtype=torch.float64)


def inverse(maps: Tensor) -> Tensor:
    """The maps (..., 4) back, such as from a network's input to the image that was fitted into it."""
    scales, shifts = maps[..., :2], maps[..., 2:]
    return torch.cat([1 / scales, -shifts / scales], -1)


def moved(boxes: Tensor, maps: Tensor) -> Tensor:
    """Boxes (..., 4) as x1, y1, x2, y2, moved along by a map (4,), or maps (..., 4) of the boxes' own."""
    maps = maps.to(boxes)
    corners = boxes.view(*boxes.shape[:-1], 2, 2) * maps[..., None, :2] + maps[..., None, 2:]  # (..., corner, x or y)
    return torch.cat([corners.amin(-2), corners.amax(-2)], -1)


def inside(boxes: Tensor, size: Size) -> Tensor:
    """Boxes (..., 4) cut off at the borders of an image; the sides of one beyond them are 0."""
    height, width = sides(size)
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height] * 2))


def areas(boxes: Tensor) -> Tensor:
    """Areas (...,) of boxes (..., 4); 0 where x2 <= x1 or y2 <= y1."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def moved_inside(boxes: Boxes, one_map: Tensor, size: Size, *, visible: float = 0.0, least: float = 0.0) -> Boxes:
    """The boxes in an image of `size` to which a map (4,) leads, cut off at its borders.

    Left out are those of which less than the part `visible` of the area is in it, or a side is under `least` pixels, or
    nothing is left.
    """
    whole = moved(boxes.boxes, one_map)
    seen = inside(whole, size)
    left = areas(seen)
    kept = (left > 0) & (left >= visible * areas(whole)) & ((seen[:, 2:] - seen[:, :2]).amin(-1) >= least)
    return replace(boxes, boxes=seen).only(kept)


def mask_moved(masks: Tensor, maps: Tensor, size: Size) -> Tensor:
    """Masks (b, h, w) seen through maps (b, 4): at `size`, each pixel has the index of the one that its centre is in.

    Beyond the border the outermost pixels are repeated.
    """
    rows, columns = _sources(masks, maps, size)
    return masks[torch.arange(len(masks))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _sources(masks: Tensor, maps: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """The rows (b, height) and columns (b, width) from which each pixel of `size` comes."""
    found = []
    for axis in (1, 0):
        centres = torch.arange(sides(size)[1 - axis], dtype=torch.float64, device=maps.device) + 0.5
        places = ((centres - maps[:, 2 + axis, None]) / maps[:, axis, None]).floor().long()
        found.append(places.clamp(0, masks.shape[2 - axis] - 1).to(masks.device))
    return found[0], found[1]


def mask_fitted(mask: Tensor, place: Placed, size: Size, ignore_index: int) -> Tensor:
    """A mask (h, w) fitted as its image is; borders are of no class."""
    across, down = place.shape
    small = mask_moved(mask[None], map_of(place._replace(corner=(0, 0)))[None], (down, across))[0]
    if (down, across) == sides(size):
        return small
    whole = torch.full(sides(size), ignore_index, dtype=mask.dtype)
    left, top = place.corner
    whole[top : top + down, left : left + across] = small
    return whole


def pixels_moved(images: Tensor, maps: Tensor, size: Size) -> Tensor:
    """Float images (b, c, h, w) seen through maps (b, 4), at `size`: bilinear, not antialiased.

    Beyond the border the outermost pixels are repeated.
    """
    height, width = images.shape[-2:]
    down, across = sides(size)
    input_sides, output_sides = torch.tensor([width, height]), torch.tensor([across, down])
    scales, shifts = maps[:, :2].cpu(), maps[:, 2:].cpu()
    # both sides span -1..1 in affine_grid
    slopes = output_sides / (scales * input_sides)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, :, :2] = torch.diag_embed(slopes)
    theta[:, :, 2] = slopes - 2 * shifts / (scales * input_sides) - 1
    grid = F.affine_grid(theta.to(images.device), [len(images), images.shape[1], down, across], align_corners=False)
    grid = within(grid, height, width)
    return F.grid_sample(images.contiguous(), grid, mode="bilinear", align_corners=False)
