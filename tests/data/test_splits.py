"""The stratified division, and the two kinds of split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnas.data.splits import ArraySplit, stratified

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(np.array)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_stratified(labels: NDArray[np.int64], fraction: float, seed: int) -> None:
    rest, part = stratified(labels, fraction, seed)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    assert (np.diff(rest) > 0).all() and (np.diff(part) > 0).all()
    for label in np.unique(labels):
        n, chosen = int((labels == label).sum()), int((labels[part] == label).sum())
        if n == 1:
            assert chosen == 0
        else:
            assert 1 <= chosen <= n - 1
            assert abs(chosen - n * fraction) <= 1
    again = stratified(labels, fraction, seed)
    assert (again[0] == rest).all() and (again[1] == part).all()


def test_stratified_golden() -> None:
    """The same on every machine."""
    rest, part = stratified(np.arange(20) % 2, 0.2, seed=0)
    assert part.tolist() == [5, 8, 12, 19]
    assert rest.dtype == part.dtype == np.int64


def test_stratified_depends_on_the_seed() -> None:
    labels = np.zeros(100, int)
    assert stratified(labels, 0.5, 0)[1].tolist() != stratified(labels, 0.5, 1)[1].tolist()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_stratified_refuses(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        stratified(np.zeros(4, int), fraction, 0)


def test_array_split_subsets_share_the_array() -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    split = ArraySplit(images, np.arange(10))
    inner = split.subset(np.array([9, 5, 1])).subset(np.array([2, 0]))
    assert inner.images is images
    assert inner.labels.tolist() == [1, 9] and len(inner) == 2
    assert inner.fetch([1, 0], 0)[:, 0, 0, 0].tolist() == [9, 1]


def test_array_split_hands_out_copies() -> None:
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images.setflags(write=False)
    split = ArraySplit(images, np.zeros(4, int))
    split.fetch([0, 1], 2).fill_(7)
    assert split.fetch([0], 2).max() == 0


def test_half_transparent_pixel() -> None:
    split = ArraySplit(np.array([[[[0, 100, 255, 128]]]], np.uint8), np.zeros(1, int))
    assert split.fetch([0], 1).flatten().tolist() == [127, 177, 255]


def test_lazy_arrays_are_read_once() -> None:
    calls: list[str] = []

    def images() -> NDArray[np.uint8]:
        calls.append("images")
        return np.zeros((3, 2, 2), np.uint8)

    split = ArraySplit(images, lambda: np.array([0, 1, 2]))
    assert len(split) == 3 and not calls
    split.fetch([0], 2)
    split.fetch([1], 2)
    assert calls == ["images"]


def test_array_split_over_a_mapped_file(tmp_path: Path) -> None:
    """Read-only pages of a file serve as an array does, and what is fetched is the caller's own."""
    images = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    (tmp_path / "pixels").write_bytes(images.tobytes())
    mapped = ArraySplit(np.memmap(tmp_path / "pixels", np.uint8, "r", shape=images.shape), np.arange(5)).subset(
        np.array([4, 0, 2])
    )
    plain = ArraySplit(images, np.arange(5)).subset(np.array([4, 0, 2]))
    batch = mapped.fetch([2, 0], 0)
    assert batch.equal(plain.fetch([2, 0], 0)) and mapped.labels.tolist() == [4, 0, 2]
    batch.fill_(7)
    assert mapped.fetch([2, 0], 0).equal(plain.fetch([2, 0], 0))
