"""preprocessing.json is enough to prepare an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnas.data.augment import normalise
from mnas.data.images import decode
from mnas.data.reading import Reading, reading_of
from mnas.export.preprocessing import Preprocessing, read_preprocessing, write_preprocessing


@pytest.mark.parametrize("shape", [(90, 60), (48, 120), (24, 24)])
def test_preprocessing_is_enough_to_reimplement_it(shape: tuple[int, int], tmp_path: Path) -> None:
    height, width = shape
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    pixels = np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    path = tmp_path / "preprocessing.json"
    write_preprocessing(str(path), 32, ("a", "日本"))
    spec = json.loads(path.read_text())
    assert read_preprocessing(path).size == 32
    assert spec["classes"] == ["a", "日本"] and spec["output"]["shape"] == ["batch", 2]

    factor = spec["resize"]["shorter_side"] / min(height, width)
    image = Image.open(tmp_path / "image.png").convert(spec["decode"]["channel_order"])
    image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
    top, left = (image.height - spec["crop"]["height"]) // 2, (image.width - spec["crop"]["width"]) // 2
    values = np.asarray(image)[top : top + spec["crop"]["height"], left : left + spec["crop"]["width"]]
    rule = spec["normalise"]
    prepared = ((values * rule["scale"] - rule["mean"]) / rule["std"]).transpose(2, 0, 1)[None]

    ours = torch.from_numpy(decode(str(tmp_path / "image.png"), 32).copy()).permute(2, 0, 1)[None]
    assert list(prepared.shape[1:]) == spec["input"]["shape"][1:]
    assert np.abs(prepared - normalise(ours, 32).numpy()).max() < 0.05


@pytest.mark.parametrize("size", [32, (24, 40)])
@pytest.mark.parametrize("reading", [
    Reading(), Reading("pad", (0, 4095)), Reading("squeeze", (-0.5, 1.25), 10**9), Reading("crop", None, 10**6, 1),
])  # fmt: skip
def test_it_is_read_as_it_was_written(reading: Reading, size: Any, tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, size, ("a", "日本"), reading)
    assert read_preprocessing(path) == Preprocessing(size, ("a", "日本"), reading)


def test_the_file_of_an_earlier_version(tmp_path: Path) -> None:
    """It stated no fit, since there was one."""
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, 32, ("a", "b"))
    steps = json.loads(path.read_text())
    path.write_text(json.dumps({name: step for name, step in steps.items() if name != "fit"}))
    assert read_preprocessing(path) == Preprocessing(32, ("a", "b"), Reading())


@pytest.mark.parametrize("fit", ["crop", "pad", "squeeze"])
@pytest.mark.parametrize("shape", [(90, 60), (48, 120), (30, 50)])
def test_rectangles_can_be_reimplemented_too(fit: str, shape: tuple[int, int], tmp_path: Path) -> None:
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, 127 + 127 * np.sin(x / width)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    reading, path = reading_of(fit), tmp_path / "preprocessing.json"
    write_preprocessing(path, (24, 40), ("a", "b"), reading)
    spec = json.loads(path.read_text())
    assert (read_preprocessing(path).size, spec["input"]["shape"]) == ((24, 40), ["batch", 3, 24, 40])

    image = Image.open(tmp_path / "image.png")
    steps = [step for step in spec if step in ("crop", "resize", "pad")]
    assert steps == {"crop": ["crop", "resize"], "pad": ["resize", "pad"], "squeeze": ["resize"]}[fit]
    for step in steps:
        rule = spec[step]
        if step == "crop":
            part = min(width, height * rule["width_over_height"]), min(height, width / rule["width_over_height"])
            left, top = (width - part[0]) / 2, (height - part[1]) / 2
            image = image.resize(
                (spec["resize"]["width"], spec["resize"]["height"]), Image.Resampling.BILINEAR,
                box=(left, top, left + part[0], top + part[1]),
            )  # fmt: skip
        elif step == "resize" and "fit_within" in rule:
            within = rule["fit_within"]
            factor = min(within["height"] / height, within["width"] / width)
            image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BILINEAR)
        elif step == "resize":
            image = image.resize((rule["width"], rule["height"]), Image.Resampling.BILINEAR)
        else:
            whole = Image.new("RGB", (rule["width"], rule["height"]), tuple(rule["colour"]))
            whole.paste(image, (round((rule["width"] - image.width) / 2), round((rule["height"] - image.height) / 2)))
            image = whole
    rule = spec["normalise"]
    prepared = ((np.asarray(image) * rule["scale"] - rule["mean"]) / rule["std"]).transpose(2, 0, 1)[None]
    ours = torch.from_numpy(decode(tmp_path / "image.png", (24, 40), reading).copy()).permute(2, 0, 1)[None]
    assert list(prepared.shape[1:]) == spec["input"]["shape"][1:]
    assert np.abs(prepared - normalise(ours, (24, 40)).numpy()).max() < 0.05
