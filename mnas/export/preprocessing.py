"""preprocessing.json: every step from an image file to a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnas.io.files import write_json


def write_preprocessing(
    path: Path, *, resolution: int, classes: Sequence[str], mean: Sequence[float], std: Sequence[float]
) -> None:
    """Write preprocessing.json: every step from an image file to the network's input, in order."""
    write_json(path, {
        "decode": {
            "channel_order": "RGB", "orientation": "upright, as the file's EXIF data says",
            "transparency": "over white", "gray": "repeated over the three channels", "values": [0, 255],
        },
        "resize": {"shorter_side": resolution, "interpolation": "bilinear", "antialias": True},
        "crop": {"position": "centre", "height": resolution, "width": resolution},
        "normalise": {
            "formula": "(value * scale - mean) / std, by channel", "scale": 1 / 255,
            "mean": list(mean), "std": list(std),
        },
        "input": {
            "name": "images", "shape": ["batch", 3, resolution, resolution], "layout": "NCHW", "dtype": "float32",
        },
        "output": {"name": "logits", "shape": ["batch", len(classes)], "probabilities": "softmax over the last axis"},
        "classes": list(classes),
    })  # fmt: skip
