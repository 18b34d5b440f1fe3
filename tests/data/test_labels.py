"""Labels in CSV files, as tools and competitions write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_data import write_images

from mnas.data.division import read_division, write_division
from mnas.data.sources import load_data
from mnas.errors import BadInput


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_images(tmp_path / "photos", 20)
    return tmp_path / "photos"


def csv(photos: Path, text: str) -> Path:
    path = photos.parent / "labels.csv"
    path.write_text(text)
    return path


def rows(template: str) -> str:
    return "\n".join(template.format(i=i, name=("cat", "dog")[i % 2], zero=i % 2, one=1 - i % 2) for i in range(20))


@pytest.mark.parametrize(
    "text",
    [
        rows("{i}.png,{name}"),
        "path,class\n" + rows("{i}.png,{name}"),
        "\ufeffid;label\r\n" + rows("{i};{name}"),
        "Label\tFile\n" + rows("{name}\t{i}.png"),
        'filename,width,label\n' + rows('"{i}.png",16,{name}'),
        "image,dog,cat\n" + rows("{i},{zero},{one}"),
        "image_id,dog,cat\n" + rows("{i},{zero}.0,{one}.0"),
        "dog,cat,image\n" + rows("{zero},{one},{i}"),
        "label,photo\n" + rows("{name},{i}.png"),
    ],
)  # fmt: skip
def test_forms(photos: Path, text: str) -> None:
    data = load_data(photos, labels=csv(photos, text))
    assert data.classes == ("cat", "dog")
    for split in (data.train, data.val, data.test):
        assert [int(Path(path).stem) % 2 for path in split.paths] == split.labels.tolist()  # type: ignore[attr-defined]
    assert len(data.train) + len(data.val) + len(data.test) == 20


def test_splits(photos: Path) -> None:
    kinds = ["Training"] * 10 + ["validation"] * 4 + ["TEST"] * 6
    text = "path,class,split\n" + "\n".join(f"{i}.png,{i % 2},{kind}" for i, kind in enumerate(kinds))
    data = load_data(photos, labels=csv(photos, text))
    assert (len(data.train), len(data.val), len(data.test)) == (10, 4, 6)


def test_images_that_are_not_there(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = load_data(photos, labels=csv(photos, rows("{i}.png,{name}") + "\ngone.png,cat"))
    assert len(data.train) + len(data.val) + len(data.test) == 20 and "gone.png" in caplog.text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("gone.png,cat\nlost.png,dog", "gone.png"),
        (rows("{i}.png,{name}") + "\n0.png,dog", "'cat' and of 'dog'"),
        (rows("{i}.png,cat"), "only one class"),
        (rows("{i}.png"), "a path and a class"),
        ("path,class,split\n" + rows("{i}.png,{name},fold7"), "fold7"),
        ("path,class,split\n" + rows("{i}.png,{name},test"), "no rows of the split train"),
        ("path,class\n" + rows("{i}.png,"), "0.png has no class"),
        ("", "expected rows"),
        ("image,width,height\n" + rows("{i}.png,16,{zero}"), "'class'; the columns are image, width, height"),
        ("width,height,label\n" + rows("16,{zero},{name}"), "'path'; the columns are width"),
    ],
)
def test_refused(photos: Path, text: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        load_data(photos, labels=csv(photos, text))


def test_names_in_two_unicode_forms_are_one_class(photos: Path) -> None:
    text = "\n".join(f"{i}.png,{name}" for i, name in enumerate(["caf\u00e9", "cafe\u0301", "tea", "tea"] * 5))
    assert load_data(photos, labels=csv(photos, text)).classes == ("caf\u00e9", "tea")


def test_the_division_is_kept(photos: Path, tmp_path: Path) -> None:
    labels = csv(photos, rows("{i}.png,{name}"))
    before = load_data(photos, labels=labels)
    assert before.division is not None
    write_division(tmp_path, before.division)
    again = load_data(photos, labels=labels, seed=9, division=read_division(tmp_path))
    assert np.array_equal(again.test.labels, before.test.labels)


def test_a_file_has_no_csv_labels(tmp_path: Path, photos: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.zeros((4, 2, 2), np.uint8), train_labels=np.arange(4) % 2)
    with pytest.raises(BadInput, match="--labels"):
        load_data(tmp_path / "x.npz", labels=csv(photos, rows("{i}.png,{name}")))
