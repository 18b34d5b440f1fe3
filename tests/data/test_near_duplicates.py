"""Copies of training images in another split are counted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mnas.data.near_duplicates import count_near_duplicates, fingerprints, warn_of_near_duplicates
from mnas.data.sources import load_data
from mnas.data.splits import ArraySplit

RNG = np.random.default_rng(0)


def photo(rng: np.random.Generator) -> np.ndarray:
    """A smooth picture with some detail, as photographs are."""
    small = rng.integers(0, 256, (6, 6, 3), np.uint8)
    large = np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(large + rng.normal(0, 6, large.shape), 0, 255).astype(np.uint8)


PHOTOS = np.stack([photo(RNG) for _ in range(200)])


def changed(pixels: np.ndarray, how: str) -> np.ndarray:
    image = Image.fromarray(pixels)
    if how == "jpeg":
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=60)
        return np.asarray(Image.open(stream))
    if how == "scaled":
        return np.asarray(image.resize((40, 40)).resize((64, 64)))
    if how == "brighter":
        return np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8)
    return pixels


def count(images: np.ndarray, others: np.ndarray) -> int:
    splits = [ArraySplit(pixels, np.zeros(len(pixels), int)) for pixels in (images, others)]
    return count_near_duplicates(*map(fingerprints, splits))


@pytest.mark.parametrize("how", ["same", "jpeg", "scaled", "brighter"])
def test_copies_are_found(how: str) -> None:
    copies = np.stack([changed(pixels, how) for pixels in PHOTOS[:20]])
    assert count(np.concatenate([copies, PHOTOS[150:]]), PHOTOS[:150]) >= 19


def test_other_pictures_are_not() -> None:
    assert count(PHOTOS[150:], PHOTOS[:150]) == 0


def test_digits_are_hardly_ever_taken_for_copies() -> None:
    data = load_data("digits")
    assert count_near_duplicates(fingerprints(data.val), fingerprints(data.train)) <= 0.02 * len(data.val)


def test_plain_pictures_are_no_copies_unless_they_are_equal() -> None:
    plain = np.arange(0, 200, 10, dtype=np.uint8)[:, None, None].repeat(64, 1).repeat(64, 2)
    assert count(plain[::2], plain[1::2]) == 0 and count(plain, plain) == len(plain)


def test_they_are_said(caplog: pytest.LogCaptureFixture) -> None:
    train, val = (ArraySplit(pixels, np.zeros(len(pixels), int)) for pixels in (PHOTOS[:100], PHOTOS[90:120]))
    warn_of_near_duplicates(train, val, "search-validation")
    assert "10 of 30 search-validation images" in caplog.text
