"""Image files as pixels; broken ones are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnas.data.images import BrokenImage, decode


def save_mode(path: Path, mode: str) -> None:
    grey = np.full((10, 10), 128, np.uint8)
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif mode == "I":
        Image.fromarray(grey.astype(np.int32) * 257).save(path.with_suffix(".tif"))
    elif mode == "CMYK":
        Image.new("CMYK", (10, 10), (127, 127, 127, 0)).save(path.with_suffix(".tif"))
    else:
        Image.fromarray(grey).convert(mode).save(path.with_suffix(".png"))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16", "I"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    save_mode(tmp_path / "x", mode)
    pixels = decode(str(next(tmp_path.iterdir())), 5)
    assert pixels.shape == (5, 5, 3)
    assert np.abs(pixels.astype(int) - 128).max() <= 1


def test_one_bit_image(tmp_path: Path) -> None:
    Image.new("1", (6, 6), 1).save(tmp_path / "x.png")
    assert (decode(str(tmp_path / "x.png"), 6) == 255).all()


@pytest.mark.parametrize(("colours", "alpha"), [("ramp", 0), (255, "ramp")])
def test_of_a_picture_of_which_white_leaves_nothing_something_stays(
    colours: int | str, alpha: int | str, tmp_path: Path
) -> None:
    """Alpha 0 everywhere, as renderers write it; white on transparent, as icons are."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    channels = [ramp if value == "ramp" else np.full_like(ramp, value) for value in (colours, colours, colours, alpha)]
    Image.fromarray(np.dstack(channels)).save(tmp_path / "x.png")
    assert np.array_equal(decode(tmp_path / "x.png", 8), np.dstack([ramp] * 3))


def test_transparency_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (6, 6), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    palette = Image.new("P", (6, 6), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=b"\x00\xff")
    for path in tmp_path.iterdir():
        assert (decode(str(path), 6) == 255).all()


def test_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 16, 8))  # blue above red
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    pixels = decode(str(tmp_path / "x.jpg"), 16)
    assert pixels[2, 8, 0] > 200 and pixels[13, 8, 2] > 200


def test_decode_crops_the_centre(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 10), (0, 0, 0))
    image.paste((255, 255, 255), (10, 0, 20, 10))
    image.save(tmp_path / "x.png")
    assert (decode(str(tmp_path / "x.png"), 10) == 255).all()


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "float", "dangling"])
def test_broken_images_are_told_apart(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    if kind == "text":
        path.write_text("no image")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif kind == "float":
        Image.new("F", (4, 4), 0.5).save(path, format="TIFF")
    else:
        path.symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(BrokenImage) as caught:
        decode(str(path), 8)
    assert str(caught.value) and "\n" not in str(caught.value)
