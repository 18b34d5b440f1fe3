"""What each `--data` opens as, and what it says when it cannot."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_data import medmnist, refuse, write_classes, write_npz

from mnas.data.folder import open_folder
from mnas.data.images import BrokenImages, decode, size_of
from mnas.data.npz import open_npz
from mnas.data.sources import load_data
from mnas.data.splits import FolderSplit
from mnas.errors import MissingDependency


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


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_text(tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    folder, file = write_classes(tmp_path / "pets", 1, "a", "b"), write_npz(tmp_path / "x.npz", medmnist())
    assert len(open_folder(kind(folder), 0).train) == 2
    assert len(open_npz(kind(file)).train) == 40
    image = kind(folder / "a" / "0.png")
    assert decode(image, 5).shape == (5, 5, 3) and min(size_of(image)) == 12
    split = FolderSplit([image], np.array([0]), BrokenImages(0))
    assert split.fetch([0], 5).shape == (1, 3, 5, 5)


def test_path_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(tmp_path / "gone", str(tmp_path / "gone"))
    refuse("digist", "'digist'", "'digits'")
    refuse("", "''")
    refuse("torchvision:CIFAR", "torchvision:CIFAR ", "'CIFAR10'")
    (tmp_path / "photo.jpg").write_bytes(b"x")
    refuse(tmp_path / "photo.jpg", str(tmp_path / "photo.jpg"), ".npz")


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
