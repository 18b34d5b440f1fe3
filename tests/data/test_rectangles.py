"""Images for networks whose input is a rectangle: from files and arrays, in the cache, augmented."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mnas.data.augment import MEAN, STD, augment, normalise
from mnas.data.images import decode
from mnas.data.loader import batches, cached, on_device
from mnas.data.reading import PADDING, Fit, Reading, reading_of
from mnas.data.sources import load_data, warn_of_shape
from mnas.data.splits import ArraySplit
from mnas.data.store import images_folder
from mnas.data.trivial_augment import NAMES, Operations, sampling_matrices

CPU = torch.device("cpu")
FITS: tuple[Fit, ...] = ("crop", "pad", "squeeze")
SIZE = (48, 80)


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth, so that ways of resampling agree, and unlike its mirror images."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / (width - 1), 255 * y / (height - 1), 127 + 127 * np.sin(3 * x / width + 2 * y / height)]
    return np.stack(planes, -1).astype(np.uint8)


def fitted(pixels: NDArray[np.uint8], fit: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What pillow's own functions make of a picture."""
    image, (height, width) = Image.fromarray(pixels), size
    if fit == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    elif fit == "pad":
        image = ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR, color=PADDING)
    else:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


SHAPES = [(96, 160), (60, 240), (200, 80), (48, 80), (30, 31)]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_files_are_fitted_as_pillow_does(fit: Fit, height: int, width: int, tmp_path: Path) -> None:
    pixels = picture(height, width)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = decode(tmp_path / "x.png", SIZE, Reading(fit))
    assert found.shape == (*SIZE, 3)
    assert difference(found, fitted(pixels, fit, SIZE)) < 1.5


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_arrays_are_fitted_like_files(fit: Fit, height: int, width: int, tmp_path: Path) -> None:
    pixels = picture(height, width)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    array = ArraySplit(pixels[None], np.zeros(1, int), reading=Reading(fit))
    of_array = normalise(array.fetch([0], SIZE), SIZE)
    decoded = torch.from_numpy(decode(tmp_path / "x.png", SIZE, Reading(fit)).copy())
    of_file = normalise(decoded[None].permute(0, 3, 1, 2), SIZE)
    assert of_array.shape == of_file.shape == (1, 3, *SIZE)
    assert (of_array - of_file).abs().mean() < 0.1, "borders of upscaled images alone"


@given(st.integers(1, 400), st.integers(1, 400), st.integers(8, 300), st.integers(8, 300), st.sampled_from(FITS))
def test_nothing_is_lost_beyond_the_shape(height: int, width: int, down: int, across: int, fit: Fit) -> None:
    found = Reading(fit).lossless(height, width, (down, across))
    if fit == "crop":
        assert found[0] <= height and found[1] <= width and (found[0] == height or found[1] == width)
    if fit == "pad":
        assert found[0] >= height and found[1] >= width and (found[0] == height or found[1] == width)
    if min(found) > 40:
        assert found[1] / found[0] == pytest.approx(across / down, rel=0.03)


def test_a_turned_jpeg_is_as_sharp(tmp_path: Path) -> None:
    pixels = picture(960, 1600)
    image = Image.fromarray(pixels.transpose(1, 0, 2)[:, ::-1])
    exif = Image.Exif()
    exif[0x0112] = 8  # turned by the reader, to the left
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    found = decode(tmp_path / "x.jpg", SIZE)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "x.jpg")))
    assert upright.shape == (960, 1600, 3)
    assert difference(found, fitted(upright, "crop", SIZE)) < 2


def photos(root: Path, height: int, width: int) -> Path:
    for name, pixels in (("left", picture(height, width)), ("right", picture(height, width)[:, ::-1])):
        (root / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("fit", FITS)
def test_the_cache_tells_shapes_apart(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train = load_data(photos(tmp_path / "photos", 96, 160), reading=reading_of(fit)).train
    for size, name in ((SIZE, "48x80px"), ((80, 48), "80x48px"), (48, "48px")):
        split = cached(train, size)
        images, _ = next(batches(split, batch_size=4, size=size, device=CPU))
        assert isinstance(split, ArraySplit) and images.shape[2:] == (size if isinstance(size, tuple) else (48, 48))
        assert images.equal(next(batches(train, batch_size=4, size=size, device=CPU, workers=0))[0])
        assert cached(train, size).images is split.images, "read again"  # type: ignore[attr-defined]
        assert [path.name for path in images_folder().iterdir()].count(".lock") == 1
        assert any(path.name.startswith(f"{name}-") for path in images_folder().iterdir())


def test_arrays_on_a_device_tell_shapes_apart() -> None:
    split = ArraySplit(picture(40, 90)[None], np.zeros(1, int), reading=Reading("pad"))
    for size, shape in ((1, (90, 90)), (SIZE, (54, 90)), ((80, 48), (150, 90))):
        for _ in range(2):
            images = on_device(split, CPU, 10**9, size)
            assert images is not None and images.shape[2:] == shape
            assert images.equal(split.fetch([0], size))


# --- augmentation -----------------------------------------------------------------------------------------------


def pixels_of(normalised: torch.Tensor) -> torch.Tensor:
    return (normalised * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(picture(height, width)).permute(2, 0, 1).repeat(count, 1, 1, 1)


@pytest.mark.parametrize(("height", "width"), [(48, 80), (96, 160), (30, 50), (60, 60), (40, 200), (31, 97)])
@pytest.mark.parametrize("trivial", [False, True])
def test_batches_have_the_shape(height: int, width: int, trivial: bool) -> None:
    raw = images(28, height, width)
    for out in (
        normalise(raw, SIZE),
        augment(raw, SIZE, generator=torch.Generator().manual_seed(0), flip=True, ratio=4 / 3, trivial=trivial),
    ):
        assert out.shape == (28, 3, *SIZE) and out.is_contiguous(memory_format=torch.channels_last)
        assert pixels_of(out).min() > -0.1 and pixels_of(out).max() < 255.1


def test_without_a_crop_an_image_stays_as_it_is() -> None:
    raw = images(4, 96, 160)
    plain = augment(raw, SIZE, generator=torch.Generator().manual_seed(0), flip=False, crop=1.0)
    torch.testing.assert_close(plain, normalise(raw, SIZE), atol=1e-3, rtol=0)


def test_windows_have_the_images_shape() -> None:
    """Ramps along both axes: a window's width and height can be read off the slopes."""
    height, width = 100, 200
    raw = torch.stack([
        torch.arange(width).expand(height, width), torch.arange(height)[:, None].expand(height, width),
        torch.zeros(height, width),
    ]).to(torch.uint8).repeat(200, 1, 1, 1)  # fmt: skip
    out = pixels_of(augment(raw, (height, width), generator=torch.Generator().manual_seed(0), flip=False))
    across = (out[:, 0, 50, 120] - out[:, 0, 50, 80]) / 40
    down = (out[:, 1, 60, 100] - out[:, 1, 40, 100]) / 20
    torch.testing.assert_close(across, down, atol=0.01, rtol=0)
    assert 0.79 < across.min() < 0.83 and 0.97 < across.max() < 1.01


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y"])
def test_geometry_is_that_of_pixels(name: str) -> None:
    """A rectangle is turned and sheared as it is within a square with borders."""
    one = Operations(torch.tensor([NAMES.index(name)]), torch.tensor([0.2]))
    height, width = 60, 120
    inside = images(1, height, width).float()
    square = F.pad(inside, (0, 0, 30, 30))

    def moved(pixels: torch.Tensor, shape: float) -> torch.Tensor:
        theta = sampling_matrices(one, mirrored=True, width_over_height=shape)
        theta[:, :2, 2] = 0  # around the centre
        return F.grid_sample(
            pixels, F.affine_grid(theta[:, :2], list(pixels.shape), align_corners=False), align_corners=False
        )

    found, expected = moved(inside, width / height), moved(square, 1.0)[..., 30:90, :]
    within = (slice(None), slice(None), slice(20, 40), slice(40, 80))
    torch.testing.assert_close(found[within], expected[within], atol=0.5, rtol=0)
    assert (found - inside)[within].abs().max() > 3, "it is moved at all"


def test_a_quarter_turn_of_a_wide_image() -> None:
    """What was above the centre is then to its side, as many pixels away."""
    turn = Operations(torch.tensor([NAMES.index("rotate")]), torch.tensor([90 / 135]))
    theta = sampling_matrices(turn, mirrored=True, width_over_height=2.0)[0]
    x, y = (theta @ torch.tensor([0.5, 0.0, 1.0]))[:2].tolist()  # a half of the half width: as long as the half height
    assert (abs(x), abs(y)) == (pytest.approx(0, abs=1e-5), pytest.approx(1.0))


# --- what is said -----------------------------------------------------------------------------------------------


def test_a_warning_compares_with_the_networks_shape(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = load_data(photos(tmp_path / "wide", 30, 120))
    tall = load_data(photos(tmp_path / "tall", 120, 30))
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "mnas.data"):
        for data in (wide, tall):
            warn_of_shape(data.name, data.train, (48, 192) if data is wide else (192, 48))
            warn_of_shape(data.name, data.train, (48, 130) if data is wide else (130, 48))
        assert not caplog.records
        warn_of_shape(wide.name, wide.train, 48)
        warn_of_shape(wide.name, wide.train, (48, 96))
        warn_of_shape(tall.name, tall.train, (48, 96))
    assert [round(float(record.args[1]), 3) for record in caplog.records] == [4.0, 2.0, 8.0]  # type: ignore[index,arg-type]
    assert "48x96" in caplog.text
    assert (wide.train.aspect_ratio(), wide.train.aspect_ratio((60, 120))) == (4.0, 2.0)
