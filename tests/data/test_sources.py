"""What each `--data` opens as, and what it says when it cannot."""

from __future__ import annotations

import logging
import math
import os
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mnas.data.npz
import mnas.data.splits
from mnas.data.folder import open_folder
from mnas.data.images import BrokenImage, BrokenImages, decode, shorter_side
from mnas.data.npz import open_npz
from mnas.data.sources import load_data
from mnas.data.splits import FolderSplit
from mnas.errors import BadInput, MissingDependency

Arrays = dict[str, Any]


def write_images(folder: Path, count: int, colour: tuple[int, int, int] = (200, 40, 90), size: int = 12) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (size + 4, size), colour).save(folder / f"{i}.png")


def write_classes(root: Path, count: int, *names: str) -> Path:
    for name in names:
        write_images(root / name, count)
    return root


def medmnist(**changes: Any) -> Arrays:
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for kind, n in (("train", 40), ("val", 10), ("test", 10)):
        arrays[f"{kind}_images"] = rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
        arrays[f"{kind}_labels"] = (np.arange(n) % 4).astype(np.uint8)[:, None]
    arrays.update(changes)
    return {key: value for key, value in arrays.items() if value is not None}


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def test_digits() -> None:
    data = load_data("digits")
    assert (data.name, data.num_classes, data.image_size, data.flip) == ("digits", 10, 8, False)
    assert len(data.train) + len(data.val) + len(data.test) == 1797
    assert 350 <= len(data.test) <= 370 and 280 <= len(data.val) <= 295
    images = data.train.fetch(np.arange(50), 32)
    assert images.shape == (50, 3, 8, 8) and images.max() == 255 and images.min() == 0


def test_same_seed_same_splits() -> None:
    first, again, other = load_data("digits", seed=3), load_data("digits", seed=3), load_data("digits", seed=4)
    every = np.arange(len(first.test))
    assert first.test.fetch(every, 8).equal(again.test.fetch(every, 8))
    assert not first.test.fetch(every, 8).equal(other.test.fetch(every, 8))


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


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_text(tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    folder, file = write_classes(tmp_path / "pets", 1, "a", "b"), write_npz(tmp_path / "x.npz", medmnist())
    assert len(open_folder(kind(folder), 0).train) == 2
    assert len(open_npz(kind(file)).train) == 40
    image = kind(folder / "a" / "0.png")
    assert decode(image, 5).shape == (5, 5, 3) and shorter_side(image) == 12
    split = FolderSplit([image], np.array([0]), BrokenImages(0))
    assert split.fetch([0], 5).shape == (1, 3, 5, 5)


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


def save_mode(path: Path, mode: str) -> None:
    grey = np.full((10, 10), 128, np.uint8)
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path.with_suffix(".png"))
    elif mode == "I":
        Image.fromarray(grey.astype(np.int32) * 257).save(path.with_suffix(".tif"))
    elif mode == "CMYK":
        Image.new("CMYK", (10, 10), (127, 127, 127, 0)).save(path.with_suffix(".tif"))
    else:
        Image.fromarray(grey).convert(mode).save(path.with_suffix(".png"))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16", "I"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    save_mode(tmp_path / "x", mode)
    pixels = decode(str(next(tmp_path.iterdir())), 5)
    assert pixels.shape == (5, 5, 3)
    assert np.abs(pixels.astype(int) - 128).max() <= 1


def test_one_bit_image(tmp_path: Path) -> None:
    Image.new("1", (6, 6), 1).save(tmp_path / "x.png")
    assert (decode(str(tmp_path / "x.png"), 6) == 255).all()


def test_transparency_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (6, 6), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    palette = Image.new("P", (6, 6), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=b"\x00\xff")
    for path in tmp_path.iterdir():
        assert (decode(str(path), 6) == 255).all()


def test_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 16, 8))  # blue above red
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    pixels = decode(str(tmp_path / "x.jpg"), 16)
    assert pixels[2, 8, 0] > 200 and pixels[13, 8, 2] > 200


def test_decode_crops_the_centre(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 10), (0, 0, 0))
    image.paste((255, 255, 255), (10, 0, 20, 10))
    image.save(tmp_path / "x.png")
    assert (decode(str(tmp_path / "x.png"), 10) == 255).all()


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "float", "dangling"])
def test_broken_images_are_told_apart(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    if kind == "text":
        path.write_text("no image")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif kind == "float":
        Image.new("F", (4, 4), 0.5).save(path, format="TIFF")
    else:
        path.symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(BrokenImage) as caught:
        decode(str(path), 8)
    assert str(caught.value) and "\n" not in str(caught.value)


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


def refuse(spec: str | Path, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_data(spec)
    for word in words:
        assert word in str(caught.value)


def test_path_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(tmp_path / "gone", str(tmp_path / "gone"))
    refuse("digist", "'digist'", "'digits'")
    refuse("", "''")
    refuse("torchvision:CIFAR", "torchvision:CIFAR ", "'CIFAR10'")
    (tmp_path / "photo.jpg").write_bytes(b"x")
    refuse(tmp_path / "photo.jpg", str(tmp_path / "photo.jpg"), ".npz")


def test_folder_errors(tmp_path: Path) -> None:
    refuse(tmp_path, f"{tmp_path} ", f"{tmp_path}/cat/1.jpg")
    write_images(tmp_path, 2)
    refuse(tmp_path, f"{tmp_path} ", "2 images")
    write_classes(tmp_path, 5, "cat")
    refuse(tmp_path, f"{tmp_path} ", "'cat'")
    (tmp_path / "dog").mkdir()
    refuse(tmp_path, str(tmp_path / "dog"), ".jpg")
    write_images(tmp_path / "dog", 1)
    refuse(tmp_path, "'dog' has 1 ", " 3, ")


def test_split_folder_errors(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", 2, "a", "b")
    refuse(tmp_path, f"{tmp_path} ", "'train'")
    write_classes(tmp_path / "train", 1, "a", "b")
    refuse(tmp_path, "'a' has 1 ", " 2, ")
    write_classes(tmp_path / "train", 4, "a", "b")
    write_classes(tmp_path / "val", 2, "c", "b")
    refuse(tmp_path, str(tmp_path / "val"), ": c;")
    write_classes(tmp_path / "valid", 2, "a", "b")
    refuse(tmp_path, "'val'", "'valid'")


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    refuse(tmp_path, str(tmp_path), "Permission denied")


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": None}, ["'train_images'", "MedMNIST"]),
        ({"val_labels": None}, ["'val_labels'"]),
        ({"train_images": np.zeros((40, 6, 6), np.float32)}, ["train_images", "float32", "uint8"]),
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


def test_torchvision_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingDependency, match="pip install torchvision"):
        load_data("torchvision:CIFAR10")


def test_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Any] = []

    class CIFAR10:
        classes = ("cat", "dog")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            made.append(train)
            assert Path(root).is_relative_to(tmp_path) and download
            self.data, self.targets = np.full((20, 4, 4, 3), 9, np.uint8), [0, 1] * 10

    class SVHN:
        def __init__(self, root: str, split: str, download: bool) -> None:
            self.data, self.labels = np.full((20, 3, 4, 4), 9, np.uint8), np.array([0, 1] * 10)

    datasets = types.ModuleType("torchvision.datasets")
    datasets.__dict__.update(CIFAR10=CIFAR10, SVHN=SVHN)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load_data("torchvision:CIFAR10")
    assert data.classes == ("cat", "dog") and data.flip and len(data.val) == 4 and made == [True]
    assert len(data.test) == 20 and made == [True, False]
    street = load_data("torchvision:SVHN")
    assert not street.flip and street.classes == ("0", "1") and street.test.fetch([0], 4).shape == (1, 3, 4, 4)


def test_folder_beside_train_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path / "train", 4, "a", "b")
    (tmp_path / "extra").mkdir()
    with caplog.at_level(logging.WARNING, "mnas.data"):
        assert len(load_data(tmp_path).train) == 4
    assert str(tmp_path / "extra") in caplog.text
