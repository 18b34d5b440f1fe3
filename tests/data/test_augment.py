"""Network input out of uint8 images."""

from __future__ import annotations

import pytest
import torch

from mnas.data.augment import MEAN, STD, augment, normalise


def pictures(count: int = 6, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(normalised: torch.Tensor) -> torch.Tensor:
    return (normalised * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


@pytest.mark.parametrize("size", [8, 16, 24])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20)])
def test_shapes_and_range(size: int, height: int, width: int) -> None:
    images = pictures(6, height, width)
    for out in (normalise(images, size), augment(images, size, generator=seeded(), flip=True)):
        assert out.shape == (6, 3, size, size) and out.dtype == torch.float32 and not out.requires_grad
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert pixels(out).min() > -0.1 and pixels(out).max() < 255.1


def test_normalise_golden() -> None:
    white = normalise(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8), 4)
    expected = [(1 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor(expected))


def test_normalise_antialiases() -> None:
    stripes = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    stripes[..., ::2] = 255
    assert (pixels(normalise(stripes, 4)) - 127.5).abs().max() < 30


def test_normalise_does_not_change_its_input() -> None:
    images = pictures()
    before = images.clone()
    normalise(images, 16)
    augment(images, 16, generator=seeded(), flip=True)
    assert images.equal(before)


def test_augment_follows_its_generator() -> None:
    images = pictures()
    state = torch.get_rng_state()
    first, again, other = (augment(images, 16, generator=seeded(seed), flip=True) for seed in (0, 0, 1))
    assert first.equal(again) and not first.equal(other)
    assert torch.get_rng_state().equal(state)


def test_augment_without_crop_only_mirrors() -> None:
    images = pictures(32)
    plain = normalise(images, 16)
    torch.testing.assert_close(augment(images, 16, generator=seeded(), flip=False, crop=1.0), plain, atol=1e-3, rtol=0)
    mirrored = augment(images, 16, generator=seeded(), flip=True, crop=1.0)
    same = [torch.allclose(a, b, atol=1e-3) for a, b in zip(mirrored, plain, strict=True)]
    flipped = [torch.allclose(a, b.flip(-1), atol=1e-3) for a, b in zip(mirrored, plain, strict=True)]
    assert all(a != b for a, b in zip(same, flipped, strict=True))
    assert 8 <= sum(flipped) <= 24


def test_augment_zooms_and_moves_within_bounds() -> None:
    """A horizontal ramp: the window's ends and middle can be read off the values."""
    ramp = torch.arange(101, dtype=torch.uint8).expand(256, 3, 101, 101).contiguous()
    out = pixels(augment(ramp, 101, generator=seeded(), flip=False))[:, 0, 50]
    steps = (out[:, 60] - out[:, 40]) / 20
    assert 0.79 < steps.min() < 0.83 and 0.97 < steps.max() < 1.01
    centres = out[:, 50] - 50
    assert 10 < centres.abs().max() <= 20.3 and centres.mean().abs() < 2


def test_augment_golden() -> None:
    """Square windows are those of earlier versions, whose trainings stay comparable."""
    out = augment(pictures(), 16, generator=seeded(), flip=True)
    corners = pixels(out)[:, 0, ::15, ::15].flatten(1)
    assert corners.round().int().tolist()[:3] == [[240, 177, 215, 180], [146, 103, 106, 208], [182, 136, 44, 158]]
    assert float(out.double().sum()) == pytest.approx(1198.1917, abs=1e-2)


@pytest.mark.parametrize("ratio", [4 / 3, 3.0])
def test_augment_stretches_within_bounds(ratio: float) -> None:
    """Ramps along both axes: the window's width and height can be read off the slopes."""
    along = torch.arange(101, dtype=torch.uint8).expand(256, 3, 101, 101)
    across, down = (
        pixels(augment(images.contiguous(), 101, generator=seeded(), flip=False, ratio=ratio))[:, 0]
        for images in (along, along.transpose(2, 3))
    )
    width, height = (across[:, 50, 55] - across[:, 50, 45]) / 10, (down[:, 55, 50] - down[:, 45, 50]) / 10
    assert width.max() < 1.01 and height.max() < 1.01, "a window is not larger than its image"
    assert 0.79 < (width * height).sqrt().min() < 0.84 and (width * height).sqrt().max() > 0.97
    stretch = (width / height).log()
    assert stretch.mean().abs() < 0.03
    largest = min(ratio, 0.8**-2)  # a side of 0.8 can be stretched to 1 at most
    assert 0.85 * largest < float(stretch.abs().max().exp()) < 1.02 * largest


@pytest.mark.parametrize("size", [8, 16, 24])
def test_augment_with_everything(size: int) -> None:
    images = pictures(64)
    once, again = (
        augment(images, size, generator=seeded(), flip=True, ratio=4 / 3, trivial=True) for _ in range(2)
    )
    assert once.equal(again)
    assert once.shape == (64, 3, size, size) and once.is_contiguous(memory_format=torch.channels_last)
    assert pixels(once).min() > -0.1 and pixels(once).max() < 255.1


def test_trivial_augment_keeps_the_windows() -> None:
    """An operation comes on top of the same window: images without one, or with colours alone, are cut alike."""
    images = pictures(64)
    plain, varied = (augment(images, 16, generator=seeded(), flip=True, trivial=on) for on in (False, True))
    same = [a.equal(b) for a, b in zip(plain, varied, strict=True)]
    assert 1 <= sum(same) <= 16, "the identity is one of fourteen operations"


def test_a_single_image_keeps_its_batch_axis() -> None:
    assert augment(pictures(1), 16, generator=seeded(), flip=True).shape == (1, 3, 16, 16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu() -> None:
    images = pictures()
    for size in (8, 16, 24):
        on_gpu = augment(images.cuda(), size, generator=seeded(), flip=True)
        torch.testing.assert_close(
            on_gpu.cpu(), augment(images, size, generator=seeded(), flip=True), atol=1e-3, rtol=0
        )
        torch.testing.assert_close(normalise(images.cuda(), size).cpu(), normalise(images, size), atol=1e-3, rtol=0)
