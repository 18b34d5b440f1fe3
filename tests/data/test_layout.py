"""Which folders are splits and which are classes, under the names that people give them."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pytest
from made_up_data import refuse, write_classes, write_images

from mnas.data import walk
from mnas.data.layout import split_of
from mnas.data.sources import load_data


@pytest.mark.parametrize(("name", "split"), [
    ("train", "train"), ("Training", "train"), ("TRAIN_SET", "train"), ("training-images", "train"),
    ("trainset", "train"),
    ("Train Data", "train"), ("trainData", "train"), ("images_train", "train"), ("valid", "val"), ("Validation", "val"),
    ("val_split", "val"), ("dev", "val"), ("Testing", "test"), ("test_set", "test"), ("unlabeled", "unlabelled"),
    ("cat", None), ("freight_train", None), ("training_shoes", None), ("tested", None), ("data", None), ("", None),
])  # fmt: skip
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("deeper", ["", "data/", "archive/dataset/"])
@pytest.mark.parametrize(("train", "val", "test"), [
    ("Training", None, "Testing"), ("training", "validation", None), ("training_set", None, "test_set"),
    ("seg_train/seg_train", None, "seg_test/seg_test"), ("TRAIN", "VAL", "TEST"),
    ("train/images", "valid/images", "test/images"),
    ("pets_train", "pets_val", "pets_test"),
])  # fmt: skip
def test_splits_under_other_names(tmp_path: Path, train: str, val: str | None, test: str | None, deeper: str) -> None:
    root = tmp_path / deeper
    write_classes(root / train, 10, "a", "b")
    for name, count in ((val, 3), (test, 2)):
        if name is not None:
            write_classes(root / name, count, "a", "b")
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    counts = [len(part) for part in (data.train, data.val, data.test)]
    assert sum(counts) == 20 + 6 * (val is not None) + 4 * (test is not None)
    if val is not None:
        assert counts[1] == 6
    if test is not None:
        assert counts[2] == 4


def test_predictions_wanted_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path / "seg_train", 10, "a", "b")
    write_images(tmp_path / "seg_pred", 9)
    assert load_data(tmp_path).classes == ("a", "b")
    assert str(tmp_path / "seg_pred") in caplog.text


def test_an_unlabelled_test_folder_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path / "train", 10, "a", "b")
    write_images(tmp_path / "test", 9)
    data = load_data(tmp_path)
    assert len(data.train) + len(data.val) + len(data.test) == 20
    assert "9 images are unlabelled" in caplog.text


def test_classes_may_be_named_like_splits(tmp_path: Path) -> None:
    assert load_data(write_classes(tmp_path / "vehicles", 4, "bus", "train")).classes == ("bus", "train")
    assert load_data(write_classes(tmp_path / "exams", 4, "test", "homework")).classes == ("homework", "test")


@pytest.mark.parametrize("names", [
    ("fold_0", "fold_1", "fold_2"), ("Fold1", "Fold2"), ("cv-1", "cv-2"), ("part1", "part2"),
])  # fmt: skip
def test_folds_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_classes(tmp_path / name, 4, "a", "b")
    refuse(tmp_path, names[0], names[1], "train/")


def test_splits_without_classes_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, 4, "Training", "Testing")
    refuse(tmp_path, "Training", "Testing", "cat/1.jpg")


def test_a_set_that_holds_itself_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path, 5, "a", "b")
    write_classes(tmp_path / "everything", 5, "a", "b")
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    assert len(data.train) + len(data.val) + len(data.test) == 10
    assert str(tmp_path / "everything") in caplog.text


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_data(write_classes(tmp_path, 5, "fingers", "palms", "thumbs"))
    assert "left out thumbs" in caplog.text


@pytest.mark.parametrize("junk", [*sorted(walk.JUNK), "@eaDir", "__MACOSX", ".ipynb_checkpoints"])
def test_what_systems_leave_is_no_class(tmp_path: Path, junk: str) -> None:
    write_classes(tmp_path, 5, "a", f"a/{junk}", "b", junk)
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    assert len(data.train) + len(data.val) + len(data.test) == 10


def test_empty_folders_are_no_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path, 5, "a", "b")
    (tmp_path / "c" / "deep").mkdir(parents=True)
    assert load_data(tmp_path).classes == ("a", "b")
    assert ": c" in caplog.text


def test_two_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    write_classes(tmp_path, 5, composed, "tea")
    write_images(tmp_path / decomposed / "more", 5)
    data = load_data(tmp_path)
    assert data.classes == (composed, "tea")
    assert len(data.train) + len(data.val) + len(data.test) == 15


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, 5, "a", "b", "caf\udce9")
    refuse(tmp_path, str(tmp_path), "UTF-8")


def test_pictures_that_are_not_read_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "readable_heif", lambda: False)
    write_classes(tmp_path, 5, "a", "b")
    for name in ("1.HEIC", "2.heic", "3.CR2", "4", "labels.txt", "Thumbs.db"):
        (tmp_path / "a" / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "mnas.data"):
        load_data(tmp_path)
    assert "2 of .heic, 1 of .cr2, 1 without a suffix; pip install pillow-heif" in caplog.text
    assert ".txt" not in caplog.text
