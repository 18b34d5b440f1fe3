"""Splits that are written down: the same images later, whatever happened to the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_up_data import write_classes, write_images

from mnas.data.division import DIVISION_FILE, read_division, write_division
from mnas.data.sources import ImageData, load_data
from mnas.errors import BadInput


def files(data: ImageData) -> dict[str, set[str]]:
    return {kind: {Path(path).name for path in getattr(data, kind).paths} for kind in ("train", "val", "test")}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        write_images(tmp_path / "pets" / name, 20)
        for path in (tmp_path / "pets" / name).iterdir():
            path.rename(path.with_name(f"{name}-{path.name}"))
    return tmp_path / "pets"


def written(data: ImageData, folder: Path) -> Path:
    folder.mkdir()
    assert data.division is not None
    write_division(folder, data.division)
    return folder


def test_new_and_lost_files_move_nothing(pets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = load_data(pets)
    out = written(before, tmp_path / "out")
    for number in range(50, 60):
        shutil.copy(pets / "cat" / "cat-0.png", pets / "cat" / f"aaa-{number}.png")
    (pets / "dog" / "dog-3.png").unlink()
    again = load_data(pets, division=read_division(out))
    for kind, names in files(before).items():
        assert files(again)[kind] == names - {"dog-3.png"}
    assert "gone: 1 images; new and left out: 10" in caplog.text
    assert files(load_data(pets)) != files(again), "divided anew, the images are in other splits"


def test_nothing_is_said_of_unchanged_data(pets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = written(load_data(pets), tmp_path / "out")
    again = load_data(pets, seed=7, division=read_division(out))
    assert files(again) == files(load_data(pets)) and "changed" not in caplog.text


def test_a_moved_root(pets: Path, tmp_path: Path) -> None:
    before = load_data(pets)
    out = written(before, tmp_path / "out")
    pets.rename(tmp_path / "elsewhere")
    assert files(load_data(tmp_path / "elsewhere", division=read_division(out))) == files(before)


def test_other_images_under_the_same_names_are_told(
    pets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = written(load_data(pets), tmp_path / "out")
    (pets / "dog" / "dog-3.png").write_bytes((pets / "dog" / "dog-3.png").read_bytes() + b"\0")
    load_data(pets, division=read_division(out))
    assert "of another size: 1" in caplog.text


def test_other_data_are_refused(pets: Path, tmp_path: Path) -> None:
    out = written(load_data(pets), tmp_path / "out")
    division = read_division(out)
    with pytest.raises(BadInput, match="40 of the 40 images"):
        load_data(write_classes(tmp_path / "others", 20, "cat", "dog"), division=division)
    with pytest.raises(BadInput, match="bird"):
        load_data(write_classes(tmp_path / "birds", 20, "bird", "dog"), division=division)


@pytest.mark.parametrize("damage", ["text", "list"])
def test_damaged_files(pets: Path, tmp_path: Path, damage: str) -> None:
    out = written(load_data(pets), tmp_path / "out")
    path = out / DIVISION_FILE
    content = json.loads(path.read_text())
    moved = content["files"]["train"].popitem()
    content["files"]["test"][moved[0]] = moved[1]
    path.write_text("{" if damage == "text" else json.dumps(content))
    with pytest.raises(BadInput, match=DIVISION_FILE):
        read_division(out)


def test_no_file(tmp_path: Path) -> None:
    assert read_division(tmp_path) is None


def test_names_that_are_no_utf8(pets: Path, tmp_path: Path) -> None:
    import os

    os.rename(pets / "cat" / "cat-1.png", os.path.join(os.fsencode(pets / "cat"), b"caf\xe9.png"))
    before = load_data(pets)
    out = written(before, tmp_path / "out")
    assert files(load_data(pets, division=read_division(out))) == files(before)


# --- arrays


def npz(path: Path, labels: np.ndarray) -> Path:
    images = np.arange(len(labels), dtype=np.uint8).repeat(16).reshape(-1, 4, 4)
    np.savez(path, train_images=images, train_labels=labels)
    return path


def pixels(data: ImageData) -> list[list[int]]:
    return [
        getattr(data, kind).fetch(np.arange(len(getattr(data, kind))), 4)[:, 0, 0, 0].tolist()
        for kind in ("train", "val", "test")
    ]


def test_arrays_that_grew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = load_data(npz(tmp_path / "x.npz", np.arange(40) % 2))
    out = written(before, tmp_path / "out")
    again = load_data(npz(tmp_path / "x.npz", np.arange(50) % 2), division=read_division(out))
    assert pixels(again) == pixels(before) and "left out: 10 training images" in caplog.text


@pytest.mark.parametrize("labels", [np.arange(30) % 2, 1 - np.arange(40) % 2])
def test_other_arrays_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    out = written(load_data(npz(tmp_path / "x.npz", np.arange(40) % 2)), tmp_path / "out")
    with pytest.raises(BadInput, match=r"\(40, "):
        load_data(npz(tmp_path / "x.npz", labels), division=read_division(out))


def test_digits(tmp_path: Path) -> None:
    digits = load_data("digits")
    out = written(digits, tmp_path / "out")
    again = load_data("digits", seed=5, division=read_division(out))
    assert (again.test.labels == digits.test.labels).all() and len(again.test) == 359
