"""`mnas train --task` and `mnas evaluate`, as typed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Mnas
from killed_training import check_continued
from made_up_dense import write_coco, write_masked, write_picture
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnas import build, zoo
from mnas.export.dense import DenseModel, load_dense
from mnas.export.dense_files import hand_over
from mnas.nn.dense import dense_network
from mnas.space.dense import DenseHead
from mnas.tasks.kinds import KINDS

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


def run_python_of(card: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the names in a card's Python stand for, once that has run with the folder's model.py."""
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    model, names = importlib.util.module_from_spec(spec), dict[str, Any]()
    monkeypatch.setitem(sys.modules, "model", model)
    spec.loader.exec_module(model)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    return names


def logged_images(folder: Path) -> list[str]:
    """The tags of the pictures in TensorBoard's files."""
    board = EventAccumulator(str(folder), size_guidance={"images": 0})
    board.Reload()
    return list(board.Tags()["images"])


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
    task: str, head: str, figure: str, by_class: str, mnas: Mnas, masks: Path, boxes: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
    onnx = {"segmentation": ["model.onnx"], "detection": ["model.onnx", "model_raw.onnx"]}[task]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([
        *onnx, "README.md", "architecture.yaml", "metrics.json", "model.py", "predictions.png", "preprocessing.json",
        "task.json", "tb", "weights.safetensors", "weights.safetensors.sha256",
    ])  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| test | {test['images']} | {test[figure]:.2%} |" in card
    write_picture(tmp_path / "photo.jpg")
    scores = run_python_of(card, tmp_path / "out", monkeypatch)["scores"]
    assert scores.shape == (1, len(written["data"]["classes"]), 32, 32) if task == "segmentation" else scores.dim() == 1
    assert sorted(row["files"][0] for row in written["files"]) == sorted(["model.py", *onnx])
    assert all(row["latency_ms"] > 0 for row in written["files"])
    # a network that was hardly trained finds classes about as likely as each other
    assert [row["agreement"] > 0.5 for row in written["files"]] == [True] * (1 + len(onnx)), written["files"]
    assert written["files"][0]["agreement"] == 1 and written["files"][0]["largest_difference"] < 1e-4
    assert logged_images(tmp_path / "out" / "tb") == ["predictions"]
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


def test_damaged_folders_and_other_data_are_refused(mnas: Mnas, tmp_path: Path) -> None:
    assert mnas("train", *FEW, "--task", "segmentation", "-o", "out").code == 0
    refused(mnas, "evaluate", "out", "--seed", "3")
    refused(mnas, "evaluate", "out", "--split", "dev")
    refused(mnas, "evaluate", "out", "--data", write_masked(tmp_path / "others"))
    stated = json.loads((tmp_path / "out" / "task.json").read_text())
    for change in ({"head": "ssdlite"}, {"num_classes": 10**12}, {"task": "poetry"}, {"classes": 5}, {"head": []}):
        (tmp_path / "out" / "task.json").write_text(json.dumps(stated | change))
        refused(mnas, "evaluate", "out")


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a network for each task, as `mnas train` hands them over, with random weights and without data."""
    root = tmp_path_factory.mktemp("dense")
    for name, task, classes in (("masks", "segmentation", 0), ("boxes", "detection", 1)):
        data = KINDS[task].load("shapes")
        head = DenseHead("lraspp" if task == "segmentation" else "ssdlite", len(data.classes) + classes)
        arch = zoo.get("mobilenet_v3_small", 0.35, 64)
        torch.manual_seed(0)
        model = DenseModel(dense_network(arch, head).eval(), arch, task, head, data.classes, data.train.reading)
        hand_over(root / name, model, None, title=name)
    return root


def test_a_folder_without_its_data_has_no_picture(handed_over: Path) -> None:
    assert not (handed_over / "masks" / "predictions.png").exists()
    assert (handed_over / "boxes" / "model_raw.onnx").exists()


@pytest.mark.parametrize("name, files", [
    ("masks", ["model.py", "model.onnx"]), ("boxes", ["model.py", "model_raw.onnx", "model.onnx"]),
])  # fmt: skip
def test_export_and_benchmark(name: str, files: list[str], handed_over: Path, mnas: Mnas, tmp_path: Path) -> None:
    done = mnas("export", handed_over / name, "--format", "all", "-o", "copy", "--json")
    assert done.code == 0, done.err
    assert [Path(row["files"][0]).name for row in done.json["exports"]] == files
    assert [row["format"] for row in done.json["exports"]][::len(files) - 1] == ["pytorch", "onnx"]
    assert done.json["images"] == 0 and "random images" in done.err
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted([
        *files, "weights.safetensors", "weights.safetensors.sha256",
    ])  # fmt: skip
    for file in files:
        assert (tmp_path / "copy" / file).read_bytes() == (handed_over / name / file).read_bytes()
    assert "exists" in refused(mnas, "export", handed_over / name, "-o", "copy")
    table = mnas("benchmark", handed_over / name, "--formats", "onnx", "--json")
    assert table.code == 0, table.err
    (network,) = table.json["networks"]
    assert [row["files"] for row in network["rows"]] == [[file] for file in files[1:]]
    assert all(row["latency_ms"] > 0 and row["bytes"] > 10_000 for row in network["rows"])
    assert json.loads((handed_over / name / "benchmark.json").read_text()) == network
    shown = mnas("benchmark", handed_over / name / "model.onnx", "--formats", "onnx")
    assert shown.code == 0 and "model.onnx" in shown.out


def test_predict_by_weights_and_by_files(handed_over: Path, mnas: Mnas, tmp_path: Path) -> None:
    write_picture(tmp_path / "new" / "one.png")
    write_picture(tmp_path / "new" / "more" / "one.jpg", width=40, height=20)
    (tmp_path / "new" / "broken.png").write_bytes(b"no picture")
    for name, by_file in (("masks", "model.onnx"), ("boxes", "model_raw.onnx")):
        said = mnas("predict", handed_over / name, "new", "-o", f"out_{name}", "--least", "0.01", "--json")
        assert said.code == 0, said.err
        sizes = {Path(one["image"]).suffix: (one["width"], one["height"]) for one in said.json["images"]}
        assert sizes == {".png": (16, 12), ".jpg": (40, 20)}
        assert [Path(one["image"]).name for one in said.json["skipped"]] == ["broken.png"]
        assert sorted(path.name for path in (tmp_path / f"out_{name}").iterdir()) == ["one.png", "one_2.png"]
        for one in said.json["images"]:
            with Image.open(one["file"]) as picture:
                assert picture.size == (one["width"], one["height"])
            assert one["predictions"]
        assert "not an empty folder" in refused(mnas, "predict", handed_over / name, "new", "-o", f"out_{name}")
        other = mnas("predict", handed_over / name, "new", "--file", handed_over / name / by_file, "--json").json
        assert other["runtime"] == "onnxruntime"
        assert len(mnas("predict", handed_over / name, "new", "--top", "1", "--json").json["images"]) == 2
        assert "one.png" in mnas("predict", handed_over / name, "new", "--least", "0.01").out
    shares = [sum(part["share"] for part in one["predictions"]) for one in mnas(
        "predict", handed_over / "masks", "new", "--runtime", "onnxruntime", "--json"
    ).json["images"]]  # fmt: skip
    assert shares == [pytest.approx(1)] * 2


@pytest.mark.parametrize("args", [
    ("export", "masks", "--format", "litert"), ("export", "masks", "--format", "onxn"), ("export", "nothing"),
    ("export", "boxes", "--precision", "int8"), ("export", "boxes", "--opset", "13"),
    ("export", "boxes", "--check", "opencv"),
    ("export", "masks", "--embed-preprocessing"), ("export", "masks", "-o", "one.onnx"), ("export", "masks", "--front"),
    ("benchmark", "boxes", "--formats", "openvino"), ("benchmark", "masks", "--precision", "fp32,int8"),
    ("predict", "masks", "nothing.png"), ("predict", "boxes", "boxes/task.json"), ("predict", "masks", "photo.txt"),
    ("predict", "masks", "one.png", "--runtime", "litert"),
    ("predict", "masks", "one.png", "--file", "boxes/model.onnx"),
    ("predict", "boxes", "one.png", "--file", "masks/model.onnx"),
    ("predict", "boxes", "one.png", "--file", "none.onnx"),
    ("predict", "boxes", "one.png", "--file", "boxes/task.json"), ("predict", "boxes", "one.png", "--least", "2"),
    ("predict", "boxes", "one.png", "--runtime", "torch", "--file", "boxes/model.onnx"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(args: tuple[str, ...], handed_over: Path, mnas: Mnas, tmp_path: Path) -> None:
    for name in ("masks", "boxes"):
        (tmp_path / name).symlink_to(handed_over / name)
    write_picture(tmp_path / "one.png")
    (tmp_path / "photo.txt").write_text("no picture")
    before = sorted(path.name for path in handed_over.rglob("*"))
    refused(mnas, *args)
    assert sorted(path.name for path in handed_over.rglob("*")) == before


def test_a_folder_without_weights_is_named(handed_over: Path, mnas: Mnas, tmp_path: Path) -> None:
    shutil.copytree(handed_over / "masks", tmp_path / "cut")
    write_picture(tmp_path / "one.png")
    (tmp_path / "cut" / "weights.safetensors").unlink()
    for args in (("export",), ("benchmark",), ("predict", "one.png")):
        assert "weights.safetensors" in refused(mnas, args[0], "cut", *args[1:])
