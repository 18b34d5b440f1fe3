"""preprocessing.json: every step from an image file to a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnas.data.augment import MEAN, STD
from mnas.data.reading import AS_USUAL, PADDING, Fit, Reading
from mnas.io.files import read_json, write_json
from mnas.io.size import Size, sides, size_of

PREPROCESSING_FILE = "preprocessing.json"


def write_preprocessing(path: str | Path, size: Size, classes: Sequence[str], reading: Reading = AS_USUAL) -> None:
    """Write the steps for images of this size, in order, and the names of the classes."""
    channels, colours = reading.channels, reading.channels == 3
    deep = {} if reading.value_range is None else {"more_than_8_bits": {
        "range": list(reading.value_range), "formula": "clip((value - low) * 255 / (high - low), 0, 255), rounded",
    }}  # fmt: skip
    write_json(Path(path), {
        "decode": {
            "channel_order": "RGB" if colours else "gray, ITU-R 601-2 luma of colours",
            "orientation": "upright, by the file's EXIF data",
            "transparency": "over white", "values": [0, 255], **deep,
            **({"gray": "repeated over the three channels"} if colours else {}),
        },
        **(_square(reading.fit, size) if isinstance(size, int) else _rectangle(reading.fit, *size)),
        "normalise": {
            "formula": "(value * scale - mean) / std, by channel", "scale": 1 / 255,
            "mean": list(MEAN[:channels]), "std": list(STD[:channels]),
        },
        "input": {"name": "images", "shape": ["batch", channels, *sides(size)], "layout": "NCHW", "dtype": "float32"},
        "output": {"name": "logits", "shape": ["batch", len(classes)], "probabilities": "softmax over the last axis"},
        "classes": list(classes),
    })  # fmt: skip


def _square(fit: Fit, size: int) -> dict[str, Any]:
    """The steps from an image of any shape to size x size pixels."""
    method = {"interpolation": "bilinear", "antialias": True}
    if fit == "squeeze":
        return {"fit": fit, "resize": {"height": size, "width": size, **method}}
    if fit == "pad":
        borders = {"position": "centre", "height": size, "width": size, "colour": list(PADDING)}
        return {"fit": fit, "resize": {"longer_side": size, **method}, "pad": borders}
    crop = {"position": "centre", "height": size, "width": size}
    return {"fit": fit, "resize": {"shorter_side": size, **method}, "crop": crop}


def _rectangle(fit: Fit, height: int, width: int) -> dict[str, Any]:
    """The steps from an image of any shape to height x width pixels."""
    method, size = {"interpolation": "bilinear", "antialias": True}, {"height": height, "width": width}
    if fit == "squeeze":
        return {"fit": fit, "resize": {**size, **method}}
    if fit == "pad":
        borders = {"position": "centre", **size, "colour": list(PADDING)}
        return {"fit": fit, "resize": {"fit_within": size, **method}, "pad": borders}
    crop = {"position": "centre", "width_over_height": width / height}
    return {"fit": fit, "crop": crop, "resize": {**size, **method}}


def input_size(path: str | Path) -> Size:
    """The size in pixels of the network's input, from preprocessing.json."""
    return size_of(read_json(Path(path))["input"]["shape"][-2:])
