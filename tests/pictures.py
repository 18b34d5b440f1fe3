"""Image files of every kind that people have, and the folder of a network that reads them in a given way."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from handmade import HAND_MADE, usual_network
from numpy.typing import NDArray
from PIL import Image

from mnas.data.reading import AS_USUAL, Reading
from mnas.export.preprocessing import write_preprocessing
from mnas.export.pytorch import export_pytorch
from mnas.io.size import Size

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")
Y, X = np.mgrid[0:90, 0:130] / 90
COLOURS = np.stack([X / X.max(), Y, (np.sin(9 * X) + 1) / 2], -1)
"""A wide picture, values from 0 to 1."""


def write_network(folder: Path, size: Size = 32, reading: Reading = AS_USUAL) -> Path:
    """The folder of an untrained network whose answers depend on the image, without an ONNX file."""
    arch = replace(HAND_MADE["inverted_residuals"], resolution=size, channels=reading.channels)
    network = usual_network(arch, len(CLASSES)).eval()
    with torch.no_grad():
        out = network(torch.randn(arch.input_shape(64)))
        network.get_parameter("classifier.weight").mul_(2 / out.std(0).mean())
        network.get_parameter("classifier.bias").sub_(network(torch.randn(arch.input_shape(64))).mean(0))
    folder.mkdir(parents=True, exist_ok=True)
    export_pytorch(network, arch, folder, classes=CLASSES, title="A network", reading=reading)
    (folder / "architecture.yaml").write_text(arch.to_yaml())
    write_preprocessing(folder / "preprocessing.json", size, CLASSES, reading)
    return folder


def write_pictures(folder: Path) -> list[Path]:
    """Of 8 bits: each mode, both shapes, a large JPEG, turned by EXIF, transparent in three ways, animated."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = Image.fromarray((255 * COLOURS).astype(np.uint8))
    tall, turned = colours.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    turned[0x0112] = 6
    for mode in ("RGB", "L", "1", "P", "LA"):
        colours.convert(mode).save(folder / f"{mode}.png")
    colours.convert("CMYK").save(folder / "cmyk.jpg")
    tall.save(folder / "tall.webp", lossless=True)
    tall.resize((900, 1300)).save(folder / "large.jpg", exif=turned)
    tall.crop((0, 0, 9, 130)).save(folder / "narrow.bmp")
    colours.save(folder / "turned.png", exif=turned)
    alpha = (255 * Y).astype(np.uint8)
    for name, pixels in (("half", np.asarray(colours)), ("icon", np.full((*alpha.shape, 3), 255, np.uint8))):
        Image.fromarray(np.dstack([pixels, alpha])).save(folder / f"{name}.png")
    Image.fromarray(np.dstack([np.asarray(colours), 0 * alpha])).save(folder / "gone.png")
    colours.convert("P").save(folder / "palette.png", transparency=bytes(range(256)))
    colours.save(folder / "film.gif", save_all=True, append_images=[Image.new("RGB", colours.size)])
    return sorted(folder.iterdir())


def write_deep_pictures(folder: Path, top: int) -> list[Path]:
    """Of more than 8 bits, values up to `top`: grey of 16 and 32 bits and as floating-point numbers, and colours."""
    folder.mkdir(parents=True, exist_ok=True)
    turned, grey = Image.Exif(), COLOURS[..., 2] * top
    turned[0x0112] = 8
    Image.fromarray(grey.astype(np.uint16)).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16)).save(folder / "turned.tif", exif=turned)
    Image.fromarray(grey.astype(np.int32)).save(folder / "grey32.tif")
    Image.fromarray(grey.astype(np.float32)).save(folder / "float.tif")
    colours = (COLOURS * top).astype(np.uint16)
    write_16_bits(folder / "colours.png", colours)
    write_16_bits(folder / "over_white.png", np.dstack([colours, (65535 * Y).astype(np.uint16)]))
    return sorted(folder.iterdir())


def write_16_bits(path: Path, pixels: NDArray[np.uint16]) -> None:
    """Colours (h, w, 3), or (h, w, 4) with transparency, as PNG, which pillow does not write."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ))  # fmt: skip
