"""TrivialAugment's operations against torchvision's, and their bounds."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from references import reference

from mnas.data.trivial_augment import (
    COLOURS,
    FARTHEST,
    GEOMETRY,
    NAMES,
    ROTATION,
    ROTATION_OF_LETTERS,
    STRONGEST,
    Operations,
    draw,
    recolour,
    sampling_matrices,
)

STRENGTHS = (-1.0, -0.6, -0.2, 0.0, 0.3, 0.5, 0.9, 1.0)


def pictures(count: int = len(STRENGTHS), side: int = 24) -> torch.Tensor:
    """Smooth, with other colours and contrasts in each, so that every operation has something to do."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    low, high = 60 * torch.rand(count, 3, 1, 1, generator=generator), 190 + 60 * torch.rand(count, 3, 1, 1)
    smooth = F.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)
    return (low + (high - low) * smooth).round().to(torch.uint8)


def all_of(name: str, strengths: tuple[float, ...] = STRENGTHS) -> Operations:
    return Operations(torch.full((len(strengths),), NAMES.index(name)), torch.tensor(strengths))


def functional() -> ModuleType:
    return reference("torchvision").transforms.functional


def theirs(name: str, image: torch.Tensor, strength: float) -> torch.Tensor:
    """The operation as torchvision's TrivialAugmentWide calls it, on uint8 (3, h, w)."""
    f, factor = functional(), 1 + STRONGEST * strength
    match name:
        case "brightness":
            return f.adjust_brightness(image, factor)
        case "contrast":
            return f.adjust_contrast(image, factor)
        case "saturation":
            return f.adjust_saturation(image, factor)
        case "sharpness":
            return f.adjust_sharpness(image, factor)
        case "posterize":
            return f.posterize(image, 8 - round(6 * abs(strength)))
        case "solarize":
            return f.solarize(image, 255 * (1 - abs(strength)))
        case "autocontrast":
            return f.autocontrast(image)
    return f.equalize(image)


@pytest.mark.parametrize("name", COLOURS)
def test_colours_equal_torchvisions(name: str) -> None:
    images = pictures()
    expected = torch.stack([theirs(name, image, s) for image, s in zip(images, STRENGTHS, strict=True)]).float()
    found = recolour(images.float(), all_of(name))
    # torchvision cuts fractions off, in the greys too
    tolerance = 0 if name in ("posterize", "solarize", "equalize") else 2.01
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


def moved(name: str, image: torch.Tensor, strength: float, shift: int) -> torch.Tensor:
    """The operation as torchvision's TrivialAugmentWide calls it, on float (3, h, w), but for its direction."""
    f = functional()
    smooth = {"interpolation": f.InterpolationMode.BILINEAR}
    shear = math.degrees(math.atan(STRONGEST * strength))
    match name:
        case "shear_x":
            return f.affine(image, 0.0, [0, 0], 1.0, [shear, 0.0], center=[0, 0], **smooth)
        case "shear_y":
            return f.affine(image, 0.0, [0, 0], 1.0, [0.0, shear], center=[0, 0], **smooth)
        case "translate_x":
            return f.affine(image, 0.0, [-shift, 0], 1.0, [0.0, 0.0])
        case "translate_y":
            return f.affine(image, 0.0, [0, -shift], 1.0, [0.0, 0.0])
    return f.rotate(image, ROTATION * strength, **smooth)


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_equals_torchvisions(name: str) -> None:
    images = pictures().float()
    side = images.shape[-1]
    shifts = [round(strength * FARTHEST * side) for strength in STRENGTHS]
    strengths = tuple(shift / (FARTHEST * side) for shift in shifts) if "translate" in name else STRENGTHS
    matrices = sampling_matrices(all_of(name, strengths), mirrored=True)
    grid = F.affine_grid(matrices[:, :2], list(images.shape), align_corners=False)
    found = F.grid_sample(images, grid, align_corners=False)
    compared = 0
    for image, ours, strength, shift in zip(images, found, strengths, shifts, strict=True):
        expected = moved(name, image, strength, shift)
        # only places whose neighbours come from within the image: at the border the two blend differently
        within = -F.max_pool2d(-(expected.amin(0, keepdim=True) > 0).float(), 5, 1, 2) > 0
        difference = (ours - expected).abs()[:, within[0]]
        assert difference.numel() == 0 or difference.max() < 0.05
        compared += difference.numel()
    assert compared > images.numel() / 4


def test_every_operation_is_drawn_as_often() -> None:
    kinds, strengths = draw(14_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(kinds, minlength=len(NAMES))
    assert len(NAMES) == len(counts) == 14
    assert counts.min() > 850 and counts.max() < 1150
    assert strengths.min() < -0.99 and strengths.max() > 0.99 and strengths.mean().abs() < 0.02


def test_an_image_gets_one_operation() -> None:
    """Each image of a mixed batch is what it would be alone; geometry leaves colours as they are, and vice versa."""
    images = pictures(len(NAMES)).float()
    mixed = Operations(torch.arange(len(NAMES)), torch.full((len(NAMES),), 0.8))
    found, matrices = recolour(images.clone(), mixed), sampling_matrices(mixed, mirrored=True)
    for i, name in enumerate(NAMES):
        one = Operations(mixed.kinds[i : i + 1], mixed.strengths[i : i + 1])
        assert found[i].equal(recolour(images[i : i + 1].clone(), one)[0])
        assert found[i].equal(images[i]) == (name not in COLOURS)
        assert matrices[i].equal(torch.eye(3)) == (name not in GEOMETRY)


@pytest.mark.parametrize("name", COLOURS)
def test_uniform_and_tiny_images_stay_finite(name: str) -> None:
    for shape in ((8, 3, 8, 8), (8, 3, 2, 2), (8, 3, 1, 1)):
        for shade in (0.0, 100.0, 255.0):
            found = recolour(torch.full(shape, shade), all_of(name))
            assert found.isfinite().all() and found.min() >= 0 and found.max() <= 255


def test_letters_are_hardly_turned() -> None:
    turned = Operations(torch.tensor([NAMES.index("rotate")]), torch.tensor([1.0]))
    for mirrored, degrees in ((True, ROTATION), (False, ROTATION_OF_LETTERS)):
        cosine = float(sampling_matrices(turned, mirrored=mirrored)[0, 0, 0])
        assert math.degrees(math.acos(cosine)) == pytest.approx(degrees, abs=1e-3)


def test_equalize_golden() -> None:
    ramp = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(1, 3, 16, 16)
    found = recolour(ramp.clone(), Operations(torch.tensor([NAMES.index("equalize")]), torch.zeros(1)))
    assert found.equal(ramp), "a step of 240 // 255 = 0 leaves the image as it is"
    found = recolour(ramp.repeat(1, 1, 2, 2), Operations(torch.tensor([NAMES.index("equalize")]), torch.zeros(1)))
    assert found.unique().tolist() == [min(255, (64 * i + 1) // 3) for i in range(13)]
