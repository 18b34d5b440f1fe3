"""Small data for segmentation and detection, in each format that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnas.errors import BadInput

WIDTH, HEIGHT = 16, 12


def write_picture(path: Path, *, width: int = WIDTH, height: int = HEIGHT, orientation: int = 1) -> None:
    """A JPEG or PNG whose left half is red and whose upper half is bright."""
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[:, : width // 2, 0] = 230
    pixels[: height // 2, :, 1] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)


def write_mask(path: Path, indices: NDArray[Any], mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "P":
        mask = Image.fromarray(indices.astype(np.uint8)).convert("P")
        mask.putpalette([number % 256 for number in range(768)])
    elif mode == "1":
        mask = Image.fromarray(indices.astype(bool))
    elif mode == "I;16":
        mask = Image.fromarray(indices.astype(np.uint16))
    else:
        mask = Image.fromarray(indices.astype(np.uint8)).convert(mode)
    mask.save(path)


def halves(left: int = 1, right: int = 0, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.int64]:
    """A mask whose left half has one index and whose right half has another."""
    indices = np.full((height, width), right)
    indices[:, : width // 2] = left
    return indices


def write_masked(root: Path, count: int = 5, mode: str = "L", masks: str = "masks") -> Path:
    """`images` and `masks` of this many images: 0.jpg and 0.png, and so on."""
    for number in range(count):
        write_picture(root / "images" / f"{number}.jpg")
        write_mask(root / masks / f"{number}.png", halves(), mode)
    return root


def write_coco(
    file: Path, boxes: Sequence[Sequence[float]] = ((2, 3, 4, 5),), count: int = 5, home: str = "images",
    **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """COCO's json for this many images in a folder beside it, each with these boxes; categories 3 and 7."""
    content: dict[str, Any] = {
        "images": [
            {"id": 10 + number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT}
            for number in range(count)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": number * 10 + i, "image_id": 10 + number, "category_id": (3, 7)[i % 2], "bbox": list(box)}
            for number in range(count) for i, box in enumerate(boxes)
        ],
    }  # fmt: skip
    content.update(changes)
    for number in range(count):
        write_picture(file.parent / home / f"{number}.jpg")
    file.write_text(json.dumps(content))
    return content


def write_yolo(root: Path, rows: Sequence[str] = ("0 0.5 0.5 0.25 0.5",), count: int = 5) -> Path:
    """`images` and `labels`, each with these rows, and data.yaml."""
    for number in range(count):
        write_picture(root / "images" / f"{number}.jpg")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{number}.txt").write_text("\n".join(rows))
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return root


def refuse(load: Callable[[], Any], *words: str) -> str:
    """The one line with which data are refused, which has these words in it."""
    with pytest.raises(BadInput) as caught:
        load()
    text = str(caught.value)
    assert caught.value.exit_code == 2 and "\n" not in text
    for word in words:
        assert word in text, text
    return text
