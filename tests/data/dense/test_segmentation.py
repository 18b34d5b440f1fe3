"""Folders of images and masks, Pascal VOC's layout, and what is wrong with them."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_up_dense import HEIGHT, WIDTH, halves, refuse, write_mask, write_masked, write_picture
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mnas.data.dense.masks import classes_in
from mnas.data.dense.samples import DenseData, DenseSplit
from mnas.data.dense.sources import load_segmentation
from mnas.data.images import BrokenImage
from mnas.data.reading import Reading


def all_splits(data: DenseData[Tensor]) -> list[DenseSplit[Tensor]]:
    return [data.train, data.val, data.test]


def names(split: DenseSplit[Tensor]) -> list[str]:
    return [Path(split.path(row)).stem for row in range(len(split))]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "1"])
def test_folder(tmp_path: Path, mode: str) -> None:
    data = load_segmentation(write_masked(tmp_path / "pets", 10, mode))
    assert (data.name, data.classes, data.ignore_index) == ("pets", ("class 0", "class 1"), 255)
    assert [len(split) for split in all_splits(data)] == [6, 2, 2]
    assert sorted(name for split in all_splits(data) for name in names(split)) == [str(number) for number in range(10)]
    image, mask = data.train.read(0, (HEIGHT, WIDTH))
    assert image.shape == (HEIGHT, WIDTH, 3) and (mask.numpy() == halves()).all()
    small, half = data.train.read(0, 4)
    assert small.shape == (4, 4, 3) and half.tolist() == [[1, 1, 0, 0]] * 4
    assert data.train.look(0).classes.tolist() == [0, 1]


def test_division_follows_its_seed(tmp_path: Path) -> None:
    write_masked(tmp_path, 30)
    first, again, other = (names(load_segmentation(tmp_path, seed=seed).test) for seed in (0, 0, 1))
    assert first == again != other


def test_a_rare_class_is_in_every_split(tmp_path: Path) -> None:
    write_masked(tmp_path, 40)
    for number in (3, 11, 30, 31, 32):
        write_mask(tmp_path / "masks" / f"{number}.png", halves(2))
    for seed in range(5):
        for split in all_splits(load_segmentation(tmp_path, seed=seed)):
            assert any(2 in split.look(row).classes for row in range(len(split)))


@pytest.mark.parametrize("inner", [False, True])
def test_split_folders(tmp_path: Path, inner: bool) -> None:
    for kind, count in (("train", 5), ("valid", 3), ("test", 2)):
        write_masked(tmp_path / "around" / kind, count)
        for part in ("images", "masks"):
            shutil.copytree(tmp_path / "around" / kind / part, tmp_path / "in" / part / kind)
    data = load_segmentation(tmp_path / ("in" if inner else "around"))
    assert [len(split) for split in all_splits(data)] == [5, 3, 2]


def test_an_archive_with_one_folder(tmp_path: Path) -> None:
    write_masked(tmp_path / "data" / "photos", 5)
    (tmp_path / "data" / "photos" / "classes.txt").write_text("sky\nroof\n\n")
    assert load_segmentation(tmp_path / "data").classes == ("sky", "roof")


def test_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_masked(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nroof\nwall\n")
    data = load_segmentation(tmp_path)
    assert data.classes == ("sky", "roof", "wall") and "wall" in caplog.text
    for text, word in (("", "no names"), ("sky\nsky\n", "twice"), ("sky\n\nroof\n", "class 1")):
        (tmp_path / "classes.txt").write_text(text)
        refuse(lambda: load_segmentation(tmp_path), "classes.txt", word)


def test_ignored_index(tmp_path: Path) -> None:
    write_masked(tmp_path)
    for number in range(5):
        mask = halves(2, 1)
        mask[0] = 255
        write_mask(tmp_path / "masks" / f"{number}.png", mask)
    data = load_segmentation(tmp_path)
    assert data.classes == ("class 0", "class 1", "class 2")
    assert data.train.look(0).classes.tolist() == [1, 2] and 255 in data.train.read(0, 8).target
    other = load_segmentation(tmp_path, ignore_index=1, max_broken=0)
    assert other.ignore_index == 1 and len(other.classes) == 256
    padded = load_segmentation(tmp_path, ignore_index=7, reading=Reading(fit="pad")).train.read(0, 16).target
    assert padded[0].tolist() == [7] * 16 and padded[8, 0] == 2


def test_a_foreground_of_255_is_refused(tmp_path: Path) -> None:
    write_masked(tmp_path)
    for number in range(5):
        write_mask(tmp_path / "masks" / f"{number}.png", halves(255, 0))
    refuse(lambda: load_segmentation(tmp_path), "0 and 255", "write 1")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_of_colours_are_refused(tmp_path: Path, mode: str) -> None:
    write_masked(tmp_path)
    write_mask(tmp_path / "masks" / "3.png", halves(), mode)
    refuse(lambda: load_segmentation(tmp_path), "masks/3.png", mode, "index", "grey PNG")


def test_grey_levels_of_few_bits_are_indices(tmp_path: Path) -> None:
    write_masked(tmp_path)
    for bits, number in ((2, 0), (4, 1)):
        palette = Image.fromarray(halves(3, 2).astype(np.uint8)).convert("P")
        palette.putpalette([0, 0, 0] * 2**bits)
        path = tmp_path / "masks" / f"{number}.png"
        palette.save(path, bits=bits)
        content = bytearray(path.read_bytes())
        content[25] = 0  # the colour type: grey in place of a palette
        start = content.index(b"PLTE") - 4
        del content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        path.write_bytes(bytes(content))
        with Image.open(path) as written:
            assert written.mode == "L"
    data = load_segmentation(tmp_path)
    assert len(data.classes) == 4
    for split in all_splits(data):
        for row, name in enumerate(names(split)):
            if name in "01":
                assert split.look(row).classes.tolist() == [2, 3]


@given(arrays(np.int32, (5, 7), elements=st.integers(-2, 300) | st.integers(2**16 - 2, 2**31 - 1)))
def test_occurring_indices(indices: NDArray[np.int32]) -> None:
    """Whether they are counted or sorted."""
    there = np.unique(indices[indices != 255])
    if (there < 0).any():
        with pytest.raises(BrokenImage, match="-"):
            classes_in(indices, 255, None)
        return
    assert classes_in(indices, 255, None).tolist() == there.tolist()
    if (there >= 40).any():
        with pytest.raises(BrokenImage, match="39"):
            classes_in(indices, 255, 40)
    else:
        assert classes_in(indices, 255, 40).tolist() == there.tolist()


def test_masks_of_images_that_exif_turns(tmp_path: Path) -> None:
    """A mask fits the image as it is shown, or as it is stored; both show the same."""
    write_masked(tmp_path, 5)
    upright, stored = tmp_path / "images" / "0.jpg", tmp_path / "images" / "1.jpg"
    for path in (upright, stored):
        write_picture(path, orientation=6)  # a quarter to the right: the left half is the upper one
    write_mask(tmp_path / "masks" / "0.png", np.array([[1] * HEIGHT] * (WIDTH // 2) + [[0] * HEIGHT] * (WIDTH // 2)))
    write_mask(tmp_path / "masks" / "1.png", halves())
    data = load_segmentation(tmp_path)
    seen = 0
    for split in all_splits(data):
        for row, name in enumerate(names(split)):
            if name in "01":
                image, mask = split.read(row, (WIDTH, HEIGHT))
                assert ((image[..., 0] > 128) == (mask.numpy() == 1)).all()
                truth = split.truth(row)  # whatever size is read
                assert (truth.height, truth.width) == (WIDTH, HEIGHT) and (truth.target == mask).all()
                seen += 1
    assert seen == 2


def test_faults_are_named_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_masked(tmp_path, 20)
    (tmp_path / "classes.txt").write_text("ground\nroof\n")
    images, masks = tmp_path / "images", tmp_path / "masks"
    write_mask(masks / "0.png", halves(width=WIDTH + 1))
    write_mask(masks / "1.png", halves(left=7))
    (masks / "2.png").unlink()
    (images / "3.jpg").unlink()
    (masks / "4.png").write_bytes(b"no mask")
    (images / "5.jpg").write_bytes(b"no image")
    (masks / "6.png").write_bytes((masks / "6.png").read_bytes()[:45])
    (masks / "7.png").unlink()
    write_mask(masks / "7.jpg", halves())
    write_picture(images / "8.png")
    with caplog.at_level(logging.WARNING, "mnas.data"):
        data = load_segmentation(tmp_path, max_broken=9)
    assert sorted(int(name) for split in all_splits(data) for name in names(split)) == list(range(8, 20))
    for word in ("0.jpg", "17 x 12", "1.jpg", "index 7", "2.png", "masks/3.png", "4.jpg", "5.jpg", "6.jpg", "7.jpg)",
                 "8.png", "skipped 5 of 17", "masks/4.png: cannot identify"):  # fmt: skip
        assert word in caplog.text, word
    refuse(lambda: load_segmentation(tmp_path, max_broken=8), "limit of 8", "--max-broken")


def test_pixels_that_are_damaged_are_found_when_they_are_read(tmp_path: Path) -> None:
    write_masked(tmp_path, 5)
    for number in range(5):
        path = tmp_path / "images" / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:-30])
    data = load_segmentation(tmp_path)
    with pytest.raises(BrokenImage):
        data.train.read(0, 8)


def test_the_test_split_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("train", "val", "test"):
        write_masked(tmp_path / kind)
    write_mask(tmp_path / "test" / "masks" / "0.png", halves(left=200))
    opened: list[str] = []
    really_open = Image.open

    def spy(path: str) -> Image.Image:
        opened.append(str(path))
        return really_open(path)

    monkeypatch.setattr(Image, "open", spy)
    data = load_segmentation(tmp_path, max_broken=0)
    assert opened and not [path for path in opened if "test" in Path(path).relative_to(tmp_path).parts]
    with pytest.raises(BrokenImage, match="index 200"):
        data.test.read(0, 8)


def write_voc(root: Path, **lists: str) -> Path:
    for number in range(8):
        write_picture(root / "JPEGImages" / f"2007_{number}.jpg")
        if number < 7:
            mask = halves(15, 0)
            mask[:, WIDTH // 2] = 255
            write_mask(root / "SegmentationClass" / f"2007_{number}.png", mask, "P")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, numbers in lists.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(
            "".join(f"2007_{number}\n" for number in numbers)
        )
    return root


def test_voc(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOCdevkit" / "VOC2012", train="012", val="34", trainval="01234", test="7")
    for spec in (root, root.parent):
        data = load_segmentation(spec)
        assert len(data.classes) == 21 and data.classes[15] == "person"
        assert names(data.val) == ["2007_3", "2007_4"] and len(data.train) == 2 and len(data.test) == 1
        assert data.val.look(0).classes.tolist() == [0, 15]
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("2007_5\n2007_6\n2007_7\n2007_9\n")
    assert names(load_segmentation(root).test) == ["2007_5", "2007_6"]
    refuse(lambda: load_segmentation(root, max_broken=1), "2 broken", "2007_7")


def test_voc_of_ones_own(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "mine", trainval="0123456")
    (root / "classes.txt").write_text("\n".join(f"kind {number}" for number in range(16)))
    data = load_segmentation(root)
    assert data.classes[15] == "kind 15" and sum(map(len, all_splits(data))) == 7
    (root / "ImageSets" / "Segmentation" / "trainval.txt").write_text("../../secret\n")
    refuse(lambda: load_segmentation(root), "outside")
    (root / "ImageSets" / "Segmentation" / "trainval.txt").unlink()
    refuse(lambda: load_segmentation(root), "train.txt")


def test_what_is_no_such_folder(tmp_path: Path) -> None:
    refuse(lambda: load_segmentation(tmp_path), "images/", "masks/", "JPEGImages")
    refuse(lambda: load_segmentation(tmp_path / "none"), "does not exist", "shapes")
    refuse(lambda: load_segmentation("shape"), "did you mean 'shapes'")
    (tmp_path / "file.txt").write_text("x")
    refuse(lambda: load_segmentation(tmp_path / "file.txt"), "is a file")
    write_masked(tmp_path, 2)
    refuse(lambda: load_segmentation(tmp_path), "2 usable", "at least 3")
    for path in (tmp_path / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    refuse(lambda: load_segmentation(tmp_path), "masks/0.png")
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    refuse(lambda: load_segmentation(tmp_path), "files: 0")
    write_masked(tmp_path / "test")
    shutil.rmtree(tmp_path / "images")
    refuse(lambda: load_segmentation(tmp_path), "no 'train' folder")
