"""Whether images are mirrored is found out from the data."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from mnas.data.mirroring import with_mirroring_decided
from mnas.data.sources import ImageData, load_data
from mnas.data.splits import ArraySplit

ROWS, COLUMNS = np.mgrid[:24, :24]


def data_of(images: np.ndarray, labels: np.ndarray, *classes: str) -> ImageData:
    split = ArraySplit(images, labels)
    return ImageData("x", classes or ("one", "two"), 24, True, split, split, split)


def arrows(rng: np.random.Generator, right: bool) -> np.ndarray:
    """A bright bar with its head at one end, somewhere on a noisy ground."""
    y, x = rng.integers(8, 16), rng.integers(6, 10)
    bar = (abs(ROWS - y) <= 1) & (x <= COLUMNS) & (x + 10 > COLUMNS)
    tip = x + 9 if right else x
    bar |= (abs(COLUMNS - tip) <= 1) & (abs(ROWS - y) <= 5)
    return np.clip(rng.normal(60, 10, (24, 24)) + 150 * bar, 0, 255).astype(np.uint8)


def blobs(rng: np.random.Generator, large: bool) -> np.ndarray:
    """A disc at a random place: mirrored, it is as large as before."""
    y, x = rng.uniform(7, 17, 2)
    disc = (ROWS - y) ** 2 + (COLUMNS - x) ** 2 < (36 if large else 9)
    return np.clip(rng.normal(60, 10, (24, 24)) + 150 * disc, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("draw", "mirrored"), [(arrows, False), (blobs, True)])
def test_the_images_decide(draw: object, mirrored: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = np.stack([draw(rng, bool(label)) for label in labels])  # type: ignore[operator]
    assert with_mirroring_decided(data_of(images, labels)).flip is mirrored
    assert ("'one'" in caplog.text and "'two'" in caplog.text) is not mirrored


@pytest.mark.parametrize(
    ("classes", "mirrored"),
    [
        (("turn_left", "turn_right"), False), (("LeftHand", "RightHand"), False), (("rechts", "links"), False),
        (("left", "straight"), True), (("bright", "dark"), True), (("ankle L", "ankle R"), False),
    ],
)  # fmt: skip
def test_the_names_decide(classes: tuple[str, ...], mirrored: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = np.stack([blobs(rng, bool(label)) for label in labels])
    assert with_mirroring_decided(data_of(images, labels, *classes)).flip is mirrored


def test_digits_in_a_folder_are_not_mirrored() -> None:
    digits = replace(load_data("digits"), flip=True)
    assert not with_mirroring_decided(digits).flip
    assert not with_mirroring_decided(replace(digits, classes=tuple("abcdefghij"))).flip


def test_what_is_off_stays_off_and_few_images_say_nothing() -> None:
    images, labels = np.zeros((12, 24, 24), np.uint8), np.arange(12) % 2
    assert with_mirroring_decided(data_of(images, labels)).flip
    assert not with_mirroring_decided(replace(data_of(images, labels), flip=False)).flip
