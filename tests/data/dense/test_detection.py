"""Boxes in COCO's json and in YOLO's text files, and what is wrong with them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_dense import HEIGHT, WIDTH, refuse, write_coco, write_picture, write_yolo
from PIL import Image

from mnas.data.dense.samples import Boxes, DenseData, DenseSplit
from mnas.data.dense.sources import load_detection
from mnas.data.dense.upright import TURNS, Header, turned_boxes

SIZE = (HEIGHT, WIDTH)


def all_splits(data: DenseData[Boxes]) -> list[DenseSplit[Boxes]]:
    return [data.train, data.val, data.test]


def names(split: DenseSplit[Boxes]) -> list[str]:
    return [Path(split.path(row)).stem for row in range(len(split))]


def boxes_of(split: DenseSplit[Boxes], row: int = 0) -> list[list[float]]:
    boxes: list[list[float]] = split.read(row, SIZE).target.boxes.tolist()
    return boxes


# --- COCO


def test_coco(tmp_path: Path) -> None:
    write_coco(tmp_path / "boxes.json", [(2, 3, 4, 5), (0, 0, 16, 12)], 10)
    for spec in (tmp_path, tmp_path / "boxes.json"):
        data = load_detection(spec)
        assert data.classes == ("cat", "dog") and [len(split) for split in all_splits(data)] == [6, 2, 2]
        found = data.train.read(0, SIZE).target
        assert found.boxes.tolist() == [[2, 3, 6, 8], [0, 0, 16, 12]] and found.labels.tolist() == [1, 2]
        assert found.crowd.tolist() == [False, False]
        assert data.train.read(0, (24, 8)).target.boxes[0].tolist() == [1, 6, 3, 16]


def test_crowds_and_images_without_boxes(tmp_path: Path) -> None:
    content = write_coco(tmp_path / "boxes.json")
    content["annotations"] = [content["annotations"][0] | {"iscrowd": 1}]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    data = load_detection(tmp_path, seed=3)
    crowds = [split.read(row, SIZE).target.crowd.tolist() for split in all_splits(data) for row in range(len(split))]
    assert sorted(crowds) == [[], [], [], [], [True]]


def test_coco_layouts(tmp_path: Path) -> None:
    """COCO's own folders, and those of Roboflow."""
    own, exported = tmp_path / "own", tmp_path / "exported"
    (own / "annotations").mkdir(parents=True)
    for kind, count in (("train", 4), ("val", 3)):
        write_coco(own / "boxes.json", count=count, home=f"{kind}2017")
        (own / "boxes.json").rename(own / "annotations" / f"instances_{kind}2017.json")
        (own / "annotations" / f"captions_{kind}2017.json").write_text("{}")
    val = own / "annotations" / "instances_val2017.json"  # whose paths start from its own folder
    val.write_text(val.read_text().replace('"file_name": "', '"file_name": "../val2017/'))
    data = load_detection(own)
    assert [len(split) for split in all_splits(data)] == [3, 3, 1]
    assert Path(data.train.path(0)).parent.name == "train2017" and Path(data.val.path(0)).parent.name == "val2017"
    for kind, count in (("train", 4), ("valid", 3), ("test", 2)):
        (exported / kind).mkdir(parents=True)
        write_coco(exported / kind / "_annotations.coco.json", count=count, home="")
    data = load_detection(exported)
    assert [len(split) for split in all_splits(data)] == [4, 3, 2]
    assert Path(data.val.path(0)).parent.name == "valid"


def test_boxes_outside_and_without_area(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside, beyond, empty, backward = (10, 6, 10, 10), (20, 2, 4, 4), (3, 3, 0, 5), (9, 9, -4, 2)
    write_coco(tmp_path / "boxes.json", [outside, beyond, empty, backward, (1, 1, 15.3, 2)], 5)
    with caplog.at_level(logging.WARNING, "mnas.data"):
        data = load_detection(tmp_path)
    np.testing.assert_allclose(boxes_of(data.train), [[10, 6, 16, 12], [1, 1, 16, 3]])
    assert data.train.look(0).oddities == {
        "boxes that reached out of their image, clipped": 1, "boxes without an area in their image, left out": 3,
    }  # fmt: skip
    assert "5 boxes that reached" in caplog.text and "15 boxes without" in caplog.text


def test_faults_of_coco_are_named_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = write_coco(tmp_path / "boxes.json", count=20)
    annotations, images = content["annotations"], content["images"]
    annotations[0]["category_id"] = 9
    annotations[1]["bbox"] = [1, 2, 3]
    annotations[2]["bbox"] = [1, 2, float("nan"), 4]
    annotations[3]["bbox"] = None
    annotations[4]["image_id"] = 999
    images[5]["width"] = 99
    (tmp_path / "images" / "6.jpg").unlink()
    (tmp_path / "images" / "7.jpg").write_bytes(b"no image")
    annotations.append("text")
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "mnas.data"):
        data = load_detection(tmp_path, max_broken=9)
    kept = sorted(int(name) for split in all_splits(data) for name in names(split))
    assert kept == [4, *range(8, 20)], "the image of an annotation that belongs nowhere stays"
    for word in ("0.jpg", "category_id 9", "1.jpg", "[1, 2, 3]", "nan", "None", "999", "99 x 12", "6.jpg", "7.jpg",
                 "annotations[20]", "skipped 2 of 15"):  # fmt: skip
        assert word in caplog.text, word
    refuse(lambda: load_detection(tmp_path, max_broken=8), "limit of 8")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"images": None}, "'images' is no list"),
        ({"images": [{"id": 1}]}, "images[0]"),
        ({"images": ["a.jpg"]}, "images[0]"),
        ({"images": [{"id": 1, "file_name": "0.jpg"}] * 2}, "one id, 1"),
        ({"images": [{"id": 1, "file_name": "../../0.jpg"}]}, "outside"),
        ({"images": [{"id": 1, "file_name": "none.jpg"}]}, "none of its 1 images"),
        ({"images": []}, "none of its 0 images"),
        ({"categories": []}, "no names"),
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]}, "one id, 3"),
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}]}, "twice"),
        ({"categories": [{"id": "3", "name": "cat"}]}, "categories[0]"),
        ({"annotations": []}, "no boxes"),
        ({"annotations": {}}, "'annotations' is no list"),
    ],
)
def test_json_of_another_structure(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    write_coco(tmp_path / "boxes.json", **change)
    refuse(lambda: load_detection(tmp_path), word)


@pytest.mark.parametrize("text", ["", "no json", "[1, 2]", "{", "{}", "[" * 100_000, '{"images": []}'])
def test_what_is_no_json_of_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "boxes.json").write_text(text)
    refuse(lambda: load_detection(tmp_path), "boxes.json")


def test_which_json_is_which(tmp_path: Path) -> None:
    write_coco(tmp_path / "a.json")
    shutil.copy(tmp_path / "a.json", tmp_path / "b.json")
    refuse(lambda: load_detection(tmp_path), "a.json, b.json", "'train'")
    (tmp_path / "a.json").rename(tmp_path / "train_a.json")
    (tmp_path / "b.json").rename(tmp_path / "train_b.json")
    refuse(lambda: load_detection(tmp_path), "train_a.json", "train_b.json")
    (tmp_path / "train_b.json").rename(tmp_path / "val.json")
    assert len(load_detection(tmp_path).val) == 5
    content = json.loads((tmp_path / "val.json").read_text())
    content["categories"][0]["name"] = "wolf"
    (tmp_path / "val.json").write_text(json.dumps(content))
    refuse(lambda: load_detection(tmp_path), "'wolf'")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_images_that_exif_turns(tmp_path: Path, orientation: int) -> None:
    """Boxes for the pixels as they are stored are turned with them."""
    stored = np.zeros((HEIGHT, WIDTH), np.uint8)
    stored[3:8, 2:6] = 1
    upright = TURNS[orientation](stored)
    rows, columns = upright.nonzero()
    wanted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    header = Header(HEIGHT, WIDTH, orientation)
    assert turned_boxes(np.array([[2.0, 3, 6, 8]]), header).tolist() == [wanted]
    write_coco(tmp_path / "boxes.json")
    for number in range(5):
        write_picture(tmp_path / "images" / f"{number}.jpg", orientation=orientation)
    with Image.open(tmp_path / "images" / "0.jpg") as image:
        assert image.size == (WIDTH, HEIGHT)
    split = load_detection(tmp_path).train
    assert split.read(0, (WIDTH, HEIGHT)).target.boxes.tolist() == [wanted]
    truth = split.truth(0)  # in the upright image's pixels, whatever size is read
    assert (truth.height, truth.width, truth.target.boxes.tolist()) == (WIDTH, HEIGHT, [wanted])


# --- YOLO


def test_yolo(tmp_path: Path) -> None:
    write_yolo(tmp_path, ["0 0.5 0.5 0.25 0.5", "", "1 0.25 0.25 0.5 0.5  "], 10)
    data = load_detection(tmp_path)
    assert data.classes == ("cat", "dog") and [len(split) for split in all_splits(data)] == [6, 2, 2]
    found = data.train.read(0, SIZE).target
    assert found.boxes.tolist() == [[6, 3, 10, 9], [0, 0, 8, 6]] and found.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    "names_of", ["names: [cat, dog]", "names: {0: cat, 1: dog}", "names:\n  - cat\n  - dog\nnc: 2", None]
)
def test_classes_of_yolo(tmp_path: Path, names_of: str | None) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    if names_of is None:
        (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    else:
        (tmp_path / "data.yaml").write_text(names_of)
    assert load_detection(tmp_path, max_broken=0).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("names: {1: cat, 2: dog}", "numbers 1, 2"),
        ("names: cat", "names is no list"),
        ("names: [cat, cat]", "twice"),
        ("names: []", "no names"),
        ("- cat", "list"),
        ("names: [cat, dog]\ntrain: [images]", "train is"),
        ("nc: 2", "no names"),
        ("names: [", "not valid YAML"),
    ],
)
def test_data_yaml_that_is_refused(tmp_path: Path, text: str, word: str) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(text)
    refuse(lambda: load_detection(tmp_path), word)


def test_yolo_layouts(tmp_path: Path) -> None:
    for kind, count in (("train", 4), ("val", 3), ("test", 2)):
        write_yolo(tmp_path / "around" / kind, count=count)
        for part in ("images", "labels"):
            shutil.copytree(tmp_path / "around" / kind / part, tmp_path / "in" / part / kind)
    (tmp_path / "around" / "data.yaml").write_text(
        "names: [cat, dog]\ntrain: ../train/images\nval: ../val/images\ntest: ../test/images\n"
    )
    (tmp_path / "in" / "data.yaml").write_text("path: .\nnames: [cat, dog]\ntrain: images/train\nval: images/test\n")
    data = load_detection(tmp_path / "around")
    assert [len(split) for split in all_splits(data)] == [4, 3, 2]
    data = load_detection(tmp_path / "in")
    assert len(data.val) == 2, "data.yaml says which folder"
    (tmp_path / "in" / "data.yaml").write_text("names: [cat, dog]\n")
    assert [len(split) for split in all_splits(load_detection(tmp_path / "in"))] == [4, 3, 2]


def test_faults_of_yolo_are_named_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_yolo(tmp_path, count=20)
    wrong = ["2 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2", "0 8 6 4 6", "cat 0.5 0.5 0.2 0.2", "0.5 0.5 0.5 0.2 0.2",
             "0 0.1 0.1 0.2 0.1 0.3 0.3", "0 nan 0.5 0.2 0.2", "-1 0.5 0.5 0.2 0.2"]  # fmt: skip
    labels = tmp_path / "labels"
    for number, row in enumerate(wrong):
        (labels / f"{number}.txt").write_text(row)
    (labels / "8.txt").unlink()
    (labels / "9.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "images" / "10.jpg").unlink()
    (labels / "11.txt").write_text("")
    (labels / "12.txt").write_text("0 0.9 0.9 0.4 0.4\n0 1.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n")
    with caplog.at_level(logging.WARNING, "mnas.data"):
        data = load_detection(tmp_path, max_broken=11)
    assert sorted(int(name) for split in all_splits(data) for name in names(split)) == list(range(11, 20))
    for word in ("0.txt, line 1", "class 2", "4 words", "8 6 4 6", "polygon", "8.txt", "9.txt", "labels/10.txt",
                 "1 boxes that reached", "2 boxes without an area"):  # fmt: skip
        assert word in caplog.text, word
    refuse(lambda: load_detection(tmp_path, max_broken=10), "limit of 10")


def test_what_is_no_such_folder(tmp_path: Path) -> None:
    refuse(lambda: load_detection(tmp_path), "COCO", "labels/")
    refuse(lambda: load_detection(tmp_path / "none"), "does not exist")
    refuse(lambda: load_detection("shape"), "did you mean 'shapes'")
    (tmp_path / "boxes.txt").write_text("x")
    refuse(lambda: load_detection(tmp_path / "boxes.txt"), ".json")
    write_yolo(tmp_path)
    shutil.rmtree(tmp_path / "labels")
    refuse(lambda: load_detection(tmp_path), "labels")
