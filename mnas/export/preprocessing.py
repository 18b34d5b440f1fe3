"""preprocessing.json: every step from an image file to a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnas.data.augment import MEAN, STD
from mnas.io.files import read_json, write_json

PREPROCESSING_FILE = "preprocessing.json"


def write_preprocessing(path: str | Path, size: int, classes: Sequence[str]) -> None:
    """Write the steps for images of `size` x `size` pixels, in order, and the names of the classes."""
    write_json(Path(path), {
        "decode": {
            "channel_order": "RGB", "orientation": "upright, by the file's EXIF data",
            "transparency": "over white", "gray": "repeated over the three channels", "values": [0, 255],
        },
        "resize": {"shorter_side": size, "interpolation": "bilinear", "antialias": True},
        "crop": {"position": "centre", "height": size, "width": size},
        "normalise": {
            "formula": "(value * scale - mean) / std, by channel", "scale": 1 / 255,
            "mean": list(MEAN), "std": list(STD),
        },
        "input": {"name": "images", "shape": ["batch", 3, size, size], "layout": "NCHW", "dtype": "float32"},
        "output": {"name": "logits", "shape": ["batch", len(classes)], "probabilities": "softmax over the last axis"},
        "classes": list(classes),
    })  # fmt: skip


def input_size(path: str | Path) -> int:
    """Height and width in pixels of the network's input, from preprocessing.json."""
    return int(read_json(Path(path))["crop"]["height"])
