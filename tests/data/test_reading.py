"""How files become pixels: images that are not square, pixels of more than 8 bits, very large images."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnas.data.images import BrokenImage, decode, quiet_pillow
from mnas.data.loader import batches, cached
from mnas.data.reading import PADDING, Reading, reading_of
from mnas.data.sources import load_data, warn_of_shape
from mnas.data.splits import ArraySplit
from mnas.errors import BadInput

STRIP = np.full((40, 160, 3), 128, np.uint8)
STRIP[:, :40] = 250  # what the central square does not have


def strips(folder: Path) -> Path:
    for name, pixels in (("left", STRIP), ("right", STRIP[:, ::-1])):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_crop_keeps_the_central_square(tmp_path: Path) -> None:
    Image.fromarray(STRIP).save(tmp_path / "x.png")
    assert (decode(tmp_path / "x.png", 32) == 128).all()


def test_squeeze_keeps_the_whole(tmp_path: Path) -> None:
    Image.fromarray(STRIP).save(tmp_path / "x.png")
    pixels = decode(tmp_path / "x.png", 32, Reading("squeeze"))
    assert (pixels[:, :6] == 250).all() and (pixels[:, 10:] == 128).all()


@pytest.mark.parametrize("turned", [False, True])
def test_pad_keeps_the_shape(tmp_path: Path, turned: bool) -> None:
    Image.fromarray(STRIP.transpose(1, 0, 2) if turned else STRIP).save(tmp_path / "x.png")
    pixels = decode(tmp_path / "x.png", 32, Reading("pad"))
    pixels = pixels.transpose(1, 0, 2) if turned else pixels
    assert (pixels[:12] == PADDING).all() and (pixels[20:] == PADDING).all()
    assert (pixels[12:20, :6] == 250).all() and (pixels[12:20, 10:] == 128).all()


def test_square_images_are_the_same_however_they_fit(tmp_path: Path) -> None:
    square = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    Image.fromarray(square).save(tmp_path / "x.png")
    first, *others = (decode(tmp_path / "x.png", 32, reading_of(fit)) for fit in ("crop", "pad", "squeeze"))
    assert all((first == other).all() for other in others)


def test_files_and_arrays_are_fitted_alike(tmp_path: Path) -> None:
    Image.fromarray(STRIP).save(tmp_path / "x.png")
    for fit, side in (("pad", 160), ("squeeze", 80)):
        reading = reading_of(fit)
        array = ArraySplit(STRIP[None], np.zeros(1, int), reading=reading)
        assert array.native_size() == side
        of_array = array.fetch([0], 0)[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(of_array - decode(tmp_path / "x.png", side, reading)).max() <= 1


def test_the_cache_tells_fits_apart(tmp_path: Path) -> None:
    import torch

    root = strips(tmp_path / "strips")
    for fit, brightest in (("crop", 128), ("squeeze", 250)):
        split = cached(load_data(root, reading=reading_of(fit)).train, 32)
        images, _ = next(batches(split, batch_size=8, size=32, device=torch.device("cpu")))
        assert images.max() == brightest and split.reading.fit == fit


def test_long_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = load_data(strips(tmp_path / "strips"))
    warn_of_shape(data.name, data.train, 32)
    assert [record.levelno for record in caplog.records if "--fit" in record.message] == [logging.WARNING]
    assert "4.0" in caplog.text and "25%" in caplog.text
    caplog.clear()
    warn_of_shape(data.name, load_data(tmp_path / "strips", reading=reading_of("pad")).train, 32)
    assert "--fit" not in caplog.text


def test_unknown_fit() -> None:
    with pytest.raises(BadInput, match="'crop'"):
        reading_of("crob")


# --- more than 8 bits


def deep_folder(folder: Path, darker: np.ndarray, brighter: np.ndarray, suffix: str) -> Path:
    for name, values in (("dark", darker), ("light", brighter)):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(values).save(folder / name / f"{i}{suffix}")
    return folder


RAMP = np.linspace(0, 1, 256)[None].repeat(256, 0)


@pytest.mark.parametrize(
    ("values", "suffix", "value_range"),
    [
        ((RAMP * 4095).astype(np.uint16), ".png", (0, 4095)),
        ((RAMP * 1023).astype(np.uint16), ".tif", (0, 1023)),
        ((7000 + RAMP * 2000).astype(np.uint16), ".png", (7000, 9000)),
        ((RAMP * 255).astype(np.int32), ".tif", (0, 255)),
        ((RAMP * 4000 - 1000).astype(np.int32), ".tif", (-1000, 3000)),
        (RAMP.astype(np.float32), ".tiff", (0, 1)),
        ((RAMP * 300 - 50).astype(np.float32), ".tif", (-50, 250)),
    ],
)
def test_the_range_of_the_data_set_becomes_0_to_255(
    values: np.ndarray, suffix: str, value_range: tuple[float, float], tmp_path: Path
) -> None:
    low = values.min()
    half = (low + (values - low) // 2).astype(values.dtype) if values.dtype.kind != "f" else low + (values - low) / 2
    data = load_data(deep_folder(tmp_path / "deep", half, values, suffix))
    found = data.train.reading.value_range
    assert found == pytest.approx(value_range)
    pixels = {label: data.train.fetch([row], 256)[0] for row, label in enumerate(data.train.labels.tolist())}
    assert int(pixels[1].max()) == 255 and len(pixels[1].unique()) > 200
    assert abs(int(pixels[0].max()) - 127) <= 1, "one scale for all images"


def test_a_range_is_warned_of_unless_it_is_that_of_16_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name, top, level in (("twelve", 4095, logging.WARNING), ("sixteen", 65535, logging.INFO)):
        caplog.clear()
        values = (RAMP * top).astype(np.uint16)
        load_data(deep_folder(tmp_path / name, values, values, ".png"))
        assert [record.levelno for record in caplog.records if f"{top:g}" in record.message] == [level]


@pytest.mark.parametrize(("suffix", "options"), [
    (".png", ()), (".tif", (259, 1)), (".tif", (259, 5)), (".tif", (259, 8)),
])  # fmt: skip
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("top", [4095, 65535])
def test_colours_of_16_bits_are_read_whole(
    suffix: str, options: tuple[int, ...], channels: int, top: int, tmp_path: Path
) -> None:
    """Stored plainly, by LZW and by deflate; pillow gives the upper 8 bits, of which 12 use 16 levels."""
    import cv2

    rng = np.random.default_rng(0)
    ramps = (RAMP, RAMP.T, RAMP[::-1, ::-1])
    colours = np.stack([(ramp * top).astype(np.uint16) for ramp in ramps], -1)  # blue, green, red
    if channels == 4:
        colours = np.concatenate([colours, np.full((256, 256, 1), 65535, np.uint16)], -1)
    noise = rng.integers(0, top + 1, (256, 256, channels), dtype=np.uint16) | (0xFFFF * (np.arange(channels) == 3))
    for name in ("a", "b"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for i in range(5):
            path = str(tmp_path / "deep" / name / f"{i}{suffix}")
            assert cv2.imwrite(path, colours if name == "a" else noise.astype(np.uint16), options)
    data = load_data(tmp_path / "deep")
    low, high = data.train.reading.value_range or (0, 0)
    assert (low, high) == pytest.approx((0, top), abs=top / 1000)
    row = int(np.flatnonzero(data.train.labels == 0)[0])
    pixels = data.train.fetch([row], 256)[0].numpy().astype(float)
    for channel, ramp in enumerate(ramps[::-1]):
        assert np.abs(pixels[channel] - 255 * ramp).max() <= 1


def test_colours_of_16_bits_lie_as_their_file_says(tmp_path: Path) -> None:
    """Turned by EXIF, and decoded alone, by a reading that knows no range."""
    import cv2

    colours = np.stack([(RAMP * 65535).astype(np.uint16)] * 3, -1)
    assert cv2.imwrite(str(tmp_path / "flat.png"), colours)
    turned = Image.Exif()
    turned[0x0112] = 6
    flat = (tmp_path / "flat.png").read_bytes()
    body = turned.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + body
    written = struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "turned.png").write_bytes(flat[:33] + written + flat[33:])
    upright, on_its_side = (decode(tmp_path / name, 256).astype(int) for name in ("flat.png", "turned.png"))
    assert np.abs(np.rot90(upright, -1) - on_its_side).max() == 0
    assert np.abs(upright[0, :, 0] - 255 * RAMP[0]).max() <= 1


def test_npz_of_more_than_8_bits(tmp_path: Path) -> None:
    images = np.zeros((40, 8, 8), np.uint16)
    images[::2] = 2000
    images[0, 0, 0] = 4000
    np.savez(tmp_path / "x.npz", train_images=images, train_labels=np.arange(40) % 2)
    data = load_data(tmp_path / "x.npz")
    assert data.train.reading.value_range == (0, 4000)
    fetched = data.train.fetch(np.arange(len(data.train)), 8)
    assert set(fetched.unique().tolist()) <= {0, 128, 255} and {0, 128} <= set(fetched.unique().tolist())


def test_nan_becomes_0(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[:, 0] = np.nan
    data = load_data(deep_folder(tmp_path / "x", values, values, ".tif"))
    assert (data.train.fetch([0], 256)[0][:, :, 0] == 0).all()


# --- very large images


def test_large_images_are_read_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "x.png")
    with quiet_pillow():
        assert (decode(tmp_path / "x.png", 8) == 9).all()
        with pytest.raises(BrokenImage, match="--max-pixels 4,095"):
            decode(tmp_path / "x.png", 8, Reading(max_pixels=4095))
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_jpeg_counts_as_it_is_decoded(tmp_path: Path) -> None:
    Image.new("RGB", (640, 640), (9, 9, 9)).save(tmp_path / "x.jpg")
    assert decode(tmp_path / "x.jpg", 32, Reading(max_pixels=80 * 80)).shape == (32, 32, 3)
