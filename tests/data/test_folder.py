"""Folders of class folders as data, and the folders that are refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from made_up_data import refuse, write_classes, write_images
from PIL import Image

import mnas.data.splits
from mnas.data.sources import load_data
from mnas.errors import BadInput


def test_folder_without_splits(tmp_path: Path) -> None:
    data = load_data(write_classes(tmp_path / "pets", 10, "dog", "cat"))
    assert (data.name, data.classes, data.image_size, data.flip) == ("pets", ("cat", "dog"), 12, True)
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.val, data.test)] == [
        [6, 6],
        [2, 2],
        [2, 2],
    ]
    assert data.test.fetch([0, 1], 8).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folder_with_splits(tmp_path: Path, val: str) -> None:
    for kind, count in (("train", 5), (val, 3), ("test", 2)):
        write_classes(tmp_path / kind, count, "a", "b")
    data = load_data(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (10, 6, 4)


def test_folder_with_train_and_test_splits_val_off(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 10, "a", "b")
    write_classes(tmp_path / "test", 2, "a", "b")
    data = load_data(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 4)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load_data(write_classes(tmp_path, 4, "car", "train")).classes == ("car", "train")


def test_folder_leaves_out_hidden_files_other_files_and_loops(tmp_path: Path) -> None:
    write_classes(tmp_path, 5, "a", "b/below")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "b" / "below" / "loop").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "itself").symlink_to(tmp_path / "b" / "itself")
    data = load_data(tmp_path)
    assert data.classes == ("a", "b")
    assert len(data.train) + len(data.val) + len(data.test) == 10


def test_test_split_of_a_folder_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("train", "val", "test"):
        write_classes(tmp_path / kind, 4, "a", "b")
    opened: list[str] = []
    really_open = Image.open

    def spy(path: str) -> Image.Image:
        opened.append(str(path))
        return really_open(path)

    monkeypatch.setattr(Image, "open", spy)
    data = load_data(tmp_path)
    data.train.fetch([0], 8)
    assert opened and not [path for path in opened if "test" in Path(path).relative_to(tmp_path).parts]
    data.test.fetch([0], 8)
    assert str(tmp_path / "test" / "a" / "0.png") in opened


def test_a_plain_folder_opens_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnas.data.splits, "decode", lambda path, size: pytest.fail("decoded"))
    load_data(write_classes(tmp_path, 5, "a", "b"))


def test_fetch_names_a_broken_image(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 5, "a", "b")
    (tmp_path / "train" / "a" / "0.png").write_text("no image")
    write_classes(tmp_path / "val", 1, "a", "b")
    write_classes(tmp_path / "test", 1, "a", "b")
    with pytest.raises(BadInput, match=r"a/0\.png "):
        load_data(tmp_path).train.fetch([1, 0], 8)


def test_folder_of_broken_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.jpg").write_text("no image")
    with pytest.raises(BadInput, match=" 6 "):
        load_data(tmp_path)


def test_folder_errors(tmp_path: Path) -> None:
    refuse(tmp_path, f"{tmp_path} ", f"{tmp_path}/cat/1.jpg")
    write_images(tmp_path, 2)
    refuse(tmp_path, f"{tmp_path} ", "2 images")
    write_classes(tmp_path, 5, "cat")
    refuse(tmp_path, f"{tmp_path} ", "'cat'")
    (tmp_path / "dog").mkdir()
    refuse(tmp_path, "'cat'", "without images: dog", ".jpg")
    write_images(tmp_path / "dog", 1)
    refuse(tmp_path, "'dog' has 1 ", " 3, ")


def test_split_folder_errors(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", 2, "a", "b")
    refuse(tmp_path, f"{tmp_path} ", "'train'")
    write_classes(tmp_path / "train", 1, "a", "b")
    refuse(tmp_path, "'a' has 1 ", " 2, ")
    write_classes(tmp_path / "train", 4, "a", "b")
    write_classes(tmp_path / "val", 2, "c", "b")
    refuse(tmp_path, "val split", ": c;")
    write_classes(tmp_path / "valid", 2, "a", "b")
    refuse(tmp_path, "'val'", "'valid'")


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    refuse(tmp_path, str(tmp_path), "Permission denied")


def test_folder_beside_train_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path / "train", 4, "a", "b")
    (tmp_path / "extra").mkdir()
    with caplog.at_level(logging.WARNING, "mnas.data"):
        assert len(load_data(tmp_path).train) == 4
    assert str(tmp_path / "extra") in caplog.text
