"""Image files as pixels; broken ones are told apart."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnas.data.images import BrokenImage, decode, quiet_pillow
from mnas.data.reading import Reading


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


def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path) -> None:
    """Before any of its pixels is decoded: 8 bytes say that it has 3.6 thousand million."""
    path = tmp_path / "x.png"
    Image.new("L", (4, 4)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with quiet_pillow(), pytest.raises(BrokenImage, match=r"60000 x 60000 pixels, more than --max-pixels"):
        decode(path, 8)
    with pytest.raises(BrokenImage, match="--max-pixels 15"):
        Image.new("L", (4, 4)).save(path)
        decode(path, 8, Reading(max_pixels=15))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_wrong_suffix_does_not_matter(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.jpg" if kind == "PNG" else "x.png")
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path, kind)
    assert abs(decode(path, 8).astype(int) - (200, 0, 0)).max() < 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_picture_of_several_is_read(kind: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 0, 100)]
    frames[0].save(tmp_path / "x.png", kind, save_all=True, append_images=frames[1:])
    assert abs(decode(tmp_path / "x.png", 8).astype(int) - (200, 0, 0)).max() < 8


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
