"""Long images are cropped unless the validation split says that their sides count."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from mnas.data.division import read_division, write_division
from mnas.data.fitting import with_fit_decided
from mnas.data.reading import Reading
from mnas.data.sources import ImageData, load_data
from mnas.io.size import Size


def strips(
    where: Literal["side", "centre"], shape: tuple[int, int] = (32, 128), count: int = 240
) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a mark, bright or dark by its class: on the left, or in the middle of the image."""
    rng, (height, width) = np.random.default_rng(0), shape
    images = rng.integers(80, 170, (count, height, width, 3), np.uint8)
    labels = np.arange(count) % 2
    start = 0 if where == "side" else (width - height) // 2
    for image, label in zip(images, labels, strict=True):
        image[:, start : start + height // 2] = 30 + 200 * label
        image[:, start + height // 2 : start + height] = 230 - 200 * label
    return images, labels


def folder(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "photos" / f"class {label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "photos"


def arrays(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(tmp_path / "photos.npz", train_images=images, train_labels=labels)
    return tmp_path / "photos.npz"


@pytest.fixture(params=[folder, arrays])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> ImageData:
    return load_data(request.param(tmp_path, *strips("side")))


def test_sides_that_tell_the_class_are_kept(opened: ImageData, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = with_fit_decided(opened)
    fit = data.train.reading.fit
    assert fit in ("pad", "squeeze") and f"--fit {fit}" in caplog.text
    assert data.train.reading == data.val.reading == data.test.reading
    assert data.division is not None and data.division.reading == data.train.reading
    assert data.image_size == {"pad": 128, "squeeze": 64}[fit]
    assert opened.train.reading.fit == "crop", "what was given stays as it was"
    assert data.train.fetch([0], 32).shape[-2:] in ((32, 32), (64, 64), (128, 128))


def test_a_central_subject_is_cropped(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path, *strips("centre")))
    assert with_fit_decided(data) is data


@pytest.mark.parametrize(("shape", "size"), [((32, 40), 1), ((32, 128), (16, 64))])
def test_images_of_about_the_networks_shape_are_left_alone(
    shape: tuple[int, int], size: Size, tmp_path: Path
) -> None:
    data = load_data(folder(tmp_path, *strips("side", shape)))
    assert with_fit_decided(data, size) is data


def test_few_images_say_nothing(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path, *strips("side", count=40)))
    assert with_fit_decided(data) is data


def test_a_rectangle_is_another_shape(tmp_path: Path) -> None:
    data = with_fit_decided(load_data(folder(tmp_path, *strips("side"))), (32, 48))
    assert data.train.reading.fit in ("pad", "squeeze")
    assert data.train.fetch([0], (32, 48)).shape == (1, 3, 32, 48)


def test_what_was_decided_is_written_down(tmp_path: Path) -> None:
    path = folder(tmp_path, *strips("side"))
    data = with_fit_decided(load_data(path))
    assert data.division is not None
    (tmp_path / "run").mkdir()
    write_division(tmp_path / "run", data.division)
    again = load_data(path, division=read_division(tmp_path / "run"))
    assert again.train.reading == data.train.reading != Reading()
    assert (again.train.fetch([3], 32) == data.train.fetch([3], 32)).all()
