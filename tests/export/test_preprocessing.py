"""preprocessing.json is enough to prepare an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnas.data.augment import normalise
from mnas.data.images import decode
from mnas.export.preprocessing import input_size, write_preprocessing


@pytest.mark.parametrize("shape", [(90, 60), (48, 120), (24, 24)])
def test_preprocessing_is_enough_to_reimplement_it(shape: tuple[int, int], tmp_path: Path) -> None:
    height, width = shape
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    pixels = np.stack([ramp, ramp[::-1], 255 - ramp], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    path = tmp_path / "preprocessing.json"
    write_preprocessing(str(path), 32, ("a", "日本"))
    spec = json.loads(path.read_text())
    assert input_size(path) == 32
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
