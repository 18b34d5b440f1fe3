"""preprocessing.json: every step from an image file to a network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.data.augment import MEAN, STD
from mnas.data.reading import AS_USUAL, FITS, MAX_PIXELS, PADDING, Fit, Reading
from mnas.errors import BadInput
from mnas.io.files import read_json, write_json
from mnas.io.size import Size, sides, size_of

PREPROCESSING_FILE = "preprocessing.json"


@dataclass(frozen=True)
class Preprocessing:
    """What preprocessing.json states: how a file becomes a network's input, and the names of the outputs."""

    size: Size
    classes: tuple[str, ...]
    reading: Reading


def write_preprocessing(
    path: str | Path, size: Size, classes: Sequence[str], reading: Reading = AS_USUAL,
    output: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write the steps for images of this size, in order, and the names of the classes.

    `output`: what the network gives; by default logits of the classes.
    """
    channels, colours = reading.channels, reading.channels == 3
    deep = {} if reading.value_range is None else {"more_than_8_bits": {
        "range": list(reading.value_range), "formula": "clip((value - low) * 255 / (high - low), 0, 255), rounded",
    }}  # fmt: skip
    limit = {} if reading.max_pixels == MAX_PIXELS else {"max_pixels": reading.max_pixels}
    write_json(Path(path), {
        "decode": {
            "channel_order": "RGB" if colours else "gray, ITU-R 601-2 luma of colours",
            "orientation": "upright, by the file's EXIF data",
            "transparency": "over white", "values": [0, 255], **deep, **limit,
            **({"gray": "repeated over the three channels"} if colours else {}),
        },
        **(_square(reading.fit, size) if isinstance(size, int) else _rectangle(reading.fit, *size)),
        "normalise": {"formula": "(value * scale - mean) / std, by channel", **_normalisation(channels)},
        "input": {"name": "images", "shape": ["batch", channels, *sides(size)], "layout": "NCHW", "dtype": "float32"},
        "output": dict(output) if output is not None else {
            "name": "logits", "shape": ["batch", len(classes)], "probabilities": "softmax over the last axis",
        },
        "classes": list(classes),
    })  # fmt: skip


def read_preprocessing(path: str | Path) -> Preprocessing:
    """What `write_preprocessing` wrote. Raises BadInput for a file that is missing, damaged or states other steps."""
    stated = read_json(path)
    try:
        decode, (_, channels, *shape), fit = stated["decode"], stated["input"]["shape"], stated.get("fit", "crop")
        low_high = decode.get("more_than_8_bits", {}).get("range")
        value_range = None if low_high is None else (float(low_high[0]), float(low_high[1]))
        reading = Reading(fit, value_range, int(decode.get("max_pixels", MAX_PIXELS)), channels)
        read = Preprocessing(size_of(shape), tuple(map(str, stated["classes"])), reading)
        known = fit in FITS and channels in (1, 3)
        known = known and _normalisation(channels).items() <= stated["normalise"].items()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: damaged, it lacks {error}; restore it, or write the network again") from None
    if not known:
        raise BadInput(f"{path}: states steps that this version of mnas does not take; restore it")
    return read


def _normalisation(channels: int) -> dict[str, Any]:
    return {"scale": 1 / 255, "mean": list(MEAN[:channels]), "std": list(STD[:channels])}


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
