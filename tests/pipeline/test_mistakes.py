"""The surest mistakes, with the right pictures, also where images are broken."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnas.data.images import BrokenImages
from mnas.data.splits import ArraySplit, FolderSplit
from mnas.pipeline.mistakes import MOST, SIDE, read_mistakes, write_mistakes
from mnas.training.judgement import Judgement, judge

CLASSES = ("dark", "light")


def shades(path: Path) -> Any:
    """The mean shade of each picture."""
    pictures = [one["picture"].partition(",")[2] for one in read_mistakes(path)["mistakes"]]
    return [int(np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))).mean()) for one in pictures]


def test_the_surest_come_first(tmp_path: Path) -> None:
    images = np.repeat(np.arange(60, dtype=np.uint8), 64).reshape(60, 8, 8)
    labels = np.zeros(60, np.int64)
    confidence = np.linspace(0.5, 0.9, 60, dtype=np.float32)
    judgement = Judgement(labels, (np.arange(60) % 2).astype(np.int64), 2, confidence=confidence)
    path = tmp_path / "mistakes" / "winner.json"
    write_mistakes(path, judgement, ArraySplit(images, labels), CLASSES, 8)
    kept = read_mistakes(path)
    assert kept["wrong"] == 30
    assert shades(path) == list(range(59, 59 - 2 * MOST, -2))
    first = kept["mistakes"][0]
    assert (first["class"], first["prediction"], first["file"]) == ("dark", "light", "image 59")
    assert first["probability"] == pytest.approx(0.9)
    assert first["picture"].startswith("data:image/png;base64,")


class Shade(torch.nn.Module):
    """Says light where an image is, the surer the lighter."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([-mean, mean], 1)


def test_a_broken_image_shifts_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / f"{shade}.png" for shade in (10, 200, 20, 240, 30)]
    for path in paths:
        Image.new("RGB", (200, 120), (int(path.stem),) * 3).save(path)
    paths[0].write_bytes(b"broken")
    split = FolderSplit(paths, np.asarray([0, 0, 1, 0, 0]), BrokenImages(1))
    judgement = judge(Shade(), split, size=100, device=torch.device("cpu"), num_classes=2)
    path = tmp_path / "found.json"
    write_mistakes(path, judgement, split, CLASSES, 100)
    mistakes = read_mistakes(path)["mistakes"]
    assert [one["file"] for one in mistakes] == ["240.png", "20.png", "200.png"]
    assert shades(path) == pytest.approx([240, 20, 200], abs=2)
    assert all(one["picture"].startswith("data:image/jpeg;base64,") for one in mistakes)
    picture = mistakes[0]["picture"].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (SIDE, SIDE)


def test_without_confidences_there_are_no_pictures(tmp_path: Path) -> None:
    labels = np.asarray([0, 1])
    split = ArraySplit(np.zeros((2, 8, 8), np.uint8), labels)
    write_mistakes(tmp_path / "x.json", Judgement(labels, 1 - labels, 2), split, CLASSES, 8)
    assert read_mistakes(tmp_path / "x.json") == {"wrong": 2, "mistakes": []}
    assert read_mistakes(tmp_path / "none.json") == {}
