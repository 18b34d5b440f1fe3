"""An .npz as data, and the .npz files that are refused."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_data import Arrays, medmnist, refuse, write_npz

import mnas.data.npz
from mnas.data.sources import load_data
from mnas.errors import BadInput


def test_npz(tmp_path: Path) -> None:
    arrays = medmnist()
    data = load_data(write_npz(tmp_path / "tiny.npz", arrays))
    assert (data.name, data.classes, data.image_size, data.flip) == ("tiny", ("0", "1", "2", "3"), 6, True)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 10, 10)
    assert (data.test.fetch([3, 1], 99).permute(0, 2, 3, 1).numpy() == arrays["test_images"][[3, 1]]).all()
    assert data.test.labels.tolist() == arrays["test_labels"][:, 0].tolist()


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_npz_channels(tmp_path: Path, channels: int | None) -> None:
    shape = (40, 6, 7) if channels is None else (40, 6, 7, channels)
    images = np.full(shape, 100, np.uint8)
    if channels == 4:
        images[..., 3] = 0  # transparent, so white
    arrays = {"train_images": images, "train_labels": np.arange(40) % 2}
    data = load_data(write_npz(tmp_path / "x.npz", arrays))
    fetched = data.val.fetch([0, 1], 6)
    assert fetched.shape == (2, 3, 6, 7) and (fetched == (255 if channels == 4 else 100)).all()
    assert len(data.train) + len(data.val) + len(data.test) == 40


def test_npz_class_names(tmp_path: Path) -> None:
    names = np.array(["north", "east", "south", "west"])
    assert load_data(write_npz(tmp_path / "x.npz", medmnist(class_names=names))).classes == tuple(names.tolist())
    refuse(write_npz(tmp_path / "y.npz", medmnist(class_names=names[:3])), "class_names", "4 classes")


def test_npz_test_images_are_read_when_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    really_read = mnas.data.npz._read

    def spy(path: Path, key: str) -> np.ndarray[Any, Any]:
        read.append(key)
        return really_read(path, key)

    monkeypatch.setattr(mnas.data.npz, "_read", spy)
    data = load_data(write_npz(tmp_path / "x.npz", medmnist()))
    data.train.fetch([0], 6)
    assert "test_images" not in read and len(data.test) == 10
    data.test.fetch([0], 6)
    assert read.count("test_images") == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_one_hot_labels(tmp_path: Path, dtype: type) -> None:
    rows = {f"{kind}_labels": np.eye(4, dtype=dtype)[np.arange(n) % 4] for kind, n in (("train", 40), ("test", 10))}
    data = load_data(write_npz(tmp_path / "x.npz", medmnist(**rows)))
    assert data.num_classes == 4
    assert data.test.labels.tolist() == [i % 4 for i in range(10)]
    rows["test_labels"][3] = 1
    refuse(write_npz(tmp_path / "x.npz", medmnist(**rows)), "test_labels", "one-hot", "multi-label")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": None}, ["'train_images'", "MedMNIST"]),
        ({"val_labels": None}, ["'val_labels'"]),
        ({"train_images": np.zeros((40, 6, 6), np.complex64)}, ["train_images", "complex64", "uint8"]),
        ({"train_images": np.zeros((40, 3, 6, 6), np.uint8)}, ["(40, 3, 6, 6)", "channels"]),
        ({"train_images": np.zeros((39, 6, 6, 3), np.uint8)}, ["train_labels", "(40, 1)", "(39,)"]),
        ({"test_images": np.zeros((10, 7, 7, 3), np.uint8)}, ["test_images", "(7, 7, 3)", "(6, 6, 3)"]),
        ({"train_labels": np.zeros((40, 14), np.uint8)}, ["(40, 14)", "multi-label"]),
        ({"train_labels": np.zeros(40)}, ["float64", "integers"]),
        ({"train_labels": np.zeros(40, int)}, ["val_labels", ": 1, 2, 3;"]),
        ({"test_labels": np.full(10, 9)}, ["test_labels", ": 9;"]),
        ({"train_labels": np.arange(40) % 4 - 1}, ["train_labels", "-1"]),
        ({"train_labels": np.arange(40) % 4 * 2, "val_labels": np.zeros(10, int), "test_labels": np.zeros(10, int)},
         ["train_labels", "class 1"]),
        ({"train_labels": np.zeros(40, int), "val_labels": np.zeros(10, int), "test_labels": np.zeros(10, int)},
         ["train_labels", "one class, 0"]),
        ({"train_labels": np.array([None] * 40)}, ["'train_labels'", "object array"]),
        ({"test_images": np.array([None] * 10)}, ["'test_images'", "object array"]),
    ],
)  # fmt: skip
def test_npz_errors(tmp_path: Path, changes: Arrays, words: list[str]) -> None:
    refuse(write_npz(tmp_path / "x.npz", medmnist(**changes)), str(tmp_path / "x.npz"), *words)


def test_npz_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("no archive")
    refuse(tmp_path / "x.npz", str(tmp_path / "x.npz"), "savez")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "y.npz")
    refuse(tmp_path / "y.npz", str(tmp_path / "y.npz"), "savez")


def test_npz_that_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("pipe.npz", "zero.npz"):
        refuse(tmp_path / name, name, "regular file")


def write_lying_npz(path: Path, stated: dict[str, tuple[int, ...]], *, everywhere: bool) -> Path:
    """medmnist() with other shapes in the headers of some arrays; `everywhere`: in the archive's directory as well."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in medmnist().items():
            shape = stated.get(key, array.shape)
            with archive.open(f"{key}.npy", "w") as file:
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                file.write(array.tobytes())
            archive.getinfo(f"{key}.npy").file_size += everywhere * (math.prod(shape) - array.size)
    return path


@pytest.mark.parametrize("shape", [(10**12, 28, 28), (40, 6, 6, 4), (-40, -6, 6, 3), (2**40, 2**40, 3)])
def test_npz_whose_header_lies(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_lying_npz(tmp_path / "x.npz", {"train_images": shape}, everywhere=False)
    refuse(path, str(path), "train_images.npy", f"uint8 {shape}")


def test_npz_larger_than_memory(tmp_path: Path) -> None:
    shapes = {"train_images": (2**40, 6, 6, 3), "train_labels": (2**40,)}
    refuse(write_lying_npz(tmp_path / "x.npz", shapes, everywhere=True), "'train_labels'", "memory")
    few = {"train_images": (2**40, 6, 6, 3), "train_labels": (40,)}
    refuse(write_lying_npz(tmp_path / "y.npz", few, everywhere=True), "train_labels", "(40,)")
    taller = write_lying_npz(tmp_path / "z.npz", {"test_images": (10, 2**40, 6, 3)}, everywhere=True)
    refuse(taller, "test_images", "(1099511627776, 6, 3)")


def test_npz_damaged_inside(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", medmnist())
    raw = bytearray(path.read_bytes())
    raw[1000:1400] = bytes(400)  # within the compressed train_images
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=r"x\.npz"):
        load_data(path).train.fetch([0], 6)
