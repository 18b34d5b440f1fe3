"""Groups of images are kept in one split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_data import write_images

from mnas.data.groups import stratified_groups
from mnas.data.sources import ImageData, load_data
from mnas.errors import BadInput


def patients(root: Path, count: int = 12, each: int = 5) -> Path:
    for name in ("ill", "well"):
        write_images(root / name, count * each)
        for i, path in enumerate(sorted((root / name).iterdir())):
            path.rename(path.with_name(f"{name}-patient{i % count}_{i // count}.png"))
    return root


def found_in(data: ImageData, pattern: str) -> list[set[str]]:
    """What a pattern finds in the paths of each split."""
    splits: list[Any] = [data.train, data.val, data.test]
    return [{found[0] for path in split.paths if (found := re.search(pattern, path))} for split in splits]


def test_no_patient_is_in_two_splits(tmp_path: Path) -> None:
    data = load_data(patients(tmp_path / "x"), group_by=r"/(\w+-patient\d+)_")
    found = found_in(data, r"\w+-patient\d+")
    assert sum(map(len, found)) == len(set.union(*found)) == 24
    for split, share in ((data.test, 0.2), (data.val, 0.16)):
        counts = np.bincount(split.labels, minlength=2)
        assert (np.abs(counts / 60 - share) < 0.1).all()


def test_patients_across_classes(tmp_path: Path) -> None:
    data = load_data(patients(tmp_path / "x"), group_by=r"patient\d+_")
    assert sum(map(len, found_in(data, r"patient\d+_"))) == 12


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=20, max_size=120), st.integers(0, 5)
)
def test_every_side_has_every_class_and_no_group_twice(images: list[tuple[int, int]], seed: int) -> None:
    labels, groups = (np.asarray(column) for column in zip(*images, strict=True))
    groups = np.unique(groups, return_inverse=True)[1]
    labels = np.unique(labels, return_inverse=True)[1]
    try:
        rest, part = stratified_groups(labels, groups, 0.2, seed)
    except BadInput:
        assert any(len(np.unique(groups[labels == label])) == 1 for label in np.unique(labels))
        return
    assert sorted([*rest, *part]) == list(range(len(labels)))
    assert not set(groups[rest]) & set(groups[part])
    assert set(labels[rest]) == set(labels)


@pytest.mark.parametrize(("pattern", "word"), [("(", "regular expression"), ("no-such-name", "finds nothing")])
def test_patterns_that_cannot_be_used(tmp_path: Path, pattern: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        load_data(patients(tmp_path / "x", 3, 3), group_by=pattern)


def test_a_class_of_one_patient(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="in one group"):
        load_data(patients(tmp_path / "x", 1, 9), group_by=r"\w+-patient\d+")


def test_arrays_have_no_paths() -> None:
    with pytest.raises(BadInput, match="--group-by"):
        load_data("digits", group_by="x")
