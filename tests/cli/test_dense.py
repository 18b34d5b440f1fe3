"""`mnas train --task` and `mnas evaluate`, as typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from command import Mnas
from killed_training import check_continued
from made_up_dense import write_coco, write_masked

from mnas import build, zoo
from mnas.export.dense import load_dense

SMALL = ("mobilenet_v3_small@0.35", "--resolution", "32", "--no-pretrained", "--set", "batch_size=4")
FEW = (*SMALL, "--set", "images=8", "--set", "epochs=2")
TASKS = [
    ("segmentation", "lraspp", "miou", "iou"), ("segmentation", "deeplabv3", "miou", "iou"),
    ("detection", "ssdlite", "map", "ap"),
]  # fmt: skip


def refused(mnas: Mnas, *args: str | Path) -> str:
    """The one line with which a command ends, with exit code 2."""
    done = mnas(*args)
    lines = done.err.strip().splitlines()
    assert done.code == 2
    assert sum(line.startswith("error:") for line in lines) == 1 and lines[-1].startswith("error:"), done.err
    assert "Traceback" not in done.err
    return lines[-1]


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return write_masked(tmp_path / "masked", 12)


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    folder = tmp_path / "boxed"
    folder.mkdir()
    write_coco(folder / "train.json", [[1, 2, 7, 8], [8, 3, 6, 7]], 12)
    return folder


@pytest.mark.parametrize("task, head, figure, by_class", TASKS)
def test_a_network_is_trained_written_and_evaluated_again(
    task: str, head: str, figure: str, by_class: str, mnas: Mnas, masks: Path, boxes: Path, tmp_path: Path
) -> None:  # fmt: skip
    data = {"segmentation": masks, "detection": boxes}[task]
    done = mnas("train", *FEW, "--task", task, "--head", head, "--data", data, "-o", "out", "--json")
    assert done.code == 0, done.err
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert done.json == {"folder": "out", **written}
    assert written["task"] == task and written["head"] == head and written["resolution"] == 32
    assert written["training"]["epochs"] == 2 and written["training"]["weights"] == "scratch"
    assert sum(written["data"]["images"].values()) == 12
    test = written["test"]
    assert 0 <= test[figure] <= 1 and test["images"] == written["data"]["images"]["test"]
    assert list(test[by_class]) == written["data"]["classes"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "architecture.yaml", "metrics.json", "task.json", "weights.safetensors", "weights.safetensors.sha256",
    ]  # fmt: skip
    for args in ((), ("--data", data)):
        again = mnas("evaluate", "out", *args, "--json")
        assert again.code == 0, again.err
        assert {key: again.json[key] for key in test} == test
    val = mnas("evaluate", "out", "--split", "val", "--json").json
    assert {key: val[key] for key in test} == written["validation"]
    shown = mnas("evaluate", "out")
    assert f"{test[figure]:.2%}" in shown.out
    model = load_dense(tmp_path / "out")
    assert sum(one.numel() for one in model.network.parameters()) == written["network"]["params"]


def test_a_killed_training_is_continued(mnas: Mnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("train", *SMALL, "--set", "images=8", "--set", "epochs=3", "--task", "segmentation")
    check_continued(mnas, tmp_path, monkeypatch, command, step=3, other="epochs=4")
    assert "not empty" in refused(mnas, *command, "-o", "killed")


def test_weights_of_a_classifier_go_in(mnas: Mnas, tmp_path: Path) -> None:
    torch.save(build(zoo.get("mobilenet_v3_small", 0.35), 7).state_dict(), tmp_path / "classifier.pt")
    args = ("--task", "detection", "--resolution", "32", "--init", "classifier.pt", "--set", "epochs=1")
    done = mnas("train", SMALL[0], *args, "--set", "images=4", "--set", "batch_size=4", "-o", "out", "--json")
    assert done.code == 0, done.err
    assert done.json["training"]["weights"] == "pretrained"
    assert done.json["training"]["recipe"]["classifier_first"] == 0.05
    assert [Path(one["name"]).name for one in done.json["pretrained"]["origins"]] == ["classifier.pt"]


@pytest.mark.parametrize("args", [
    ("--task", "segmentation", "--head", "ssdlite"), ("--task", "detection", "--head", "lraspp"), ("--head", "lraspp"),
    ("--task", "segmentation", "--head", "fcn"), ("--task", "segment"), ("--task", "segmentation", "--data", "digits"),
    ("--task", "segmentation", "--labels", "labels.csv"), ("--task", "detection", "--group-by", "a"),
    ("--task", "segmentation", "--class-weights", "auto"), ("--task", "segmentation", "--fit", "crop"),
    ("--task", "segmentation", "--set", "mixup=0.2"), ("--task", "segmentation", "--precision", "int8"),
    ("--task", "segmentation", "--init", "nothing.pt"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_any_training(args: tuple[str, ...], mnas: Mnas, tmp_path: Path) -> None:
    refused(mnas, "train", *FEW, *args, "-o", "out")
    assert not (tmp_path / "out").exists()


def test_without_pycocotools(mnas: Mnas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pycocotools", "pycocotools.coco"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "mnas[detection]" in refused(mnas, "train", *FEW, "--task", "detection", "-o", "out")
    assert not (tmp_path / "out").exists()


def test_what_there_is_not_yet_says_so(mnas: Mnas, tmp_path: Path) -> None:
    assert mnas("train", *FEW, "--task", "segmentation", "-o", "out").code == 0
    refused(mnas, "export", "out")
    refused(mnas, "predict", "out", tmp_path)
    refused(mnas, "benchmark", "out")
    refused(mnas, "evaluate", "out", "--seed", "3")
    refused(mnas, "evaluate", "out", "--split", "dev")
    refused(mnas, "evaluate", "out", "--data", write_masked(tmp_path / "others"))
    stated = json.loads((tmp_path / "out" / "task.json").read_text())
    for change in ({"head": "ssdlite"}, {"num_classes": 10**12}, {"task": "poetry"}, {"classes": 5}, {"head": []}):
        (tmp_path / "out" / "task.json").write_text(json.dumps(stated | change))
        refused(mnas, "evaluate", "out")
