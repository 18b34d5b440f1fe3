"""Files of networks with a head: model.py without mnas, ONNX with and without suppression, a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from made_up_dense import write_picture
from PIL import Image
from torch import nn

from mnas.data.augment import normalise
from mnas.data.dense import shapes
from mnas.data.dense.samples import DenseData
from mnas.errors import MnasError
from mnas.export import dense_files
from mnas.export.dense import DenseModel, load_dense
from mnas.export.dense_files import hand_over, network_input, predictions_picture, run_session, write_files
from mnas.export.heads import FORMS
from mnas.io.size import Size
from mnas.monitor.overlays import boxed, colour_of, masked, palette_image, table_of
from mnas.nn.dense import dense_network
from mnas.nn.detection import DetectionNetwork
from mnas.space import zoo
from mnas.space.dense import DenseHead
from mnas.tasks.kinds import KINDS

CASES: dict[str, tuple[str, DenseHead, str, Size]] = {
    "lraspp": ("segmentation", DenseHead("lraspp", 5), "mobilenet_v3_small", 64),
    "lraspp_8": ("segmentation", DenseHead("lraspp", 5, 8), "mobilenet_v3_small", 64),
    "deeplabv3": ("segmentation", DenseHead("deeplabv3", 5), "mobilenet_v3_small", (64, 96)),
    "deeplabv3_v2": ("segmentation", DenseHead("deeplabv3", 5, 32), "mobilenet_v2", 64),
    "ssdlite": ("detection", DenseHead("ssdlite", 5), "mobilenet_v3_small", 96),
    "ssdlite_v1": ("detection", DenseHead("ssdlite", 5), "mobilenet_v1", (96, 64)),
    "ssdlite_odd": ("detection", DenseHead("ssdlite", 5), "mobilenet_v3_large", 100),
}

# Runs each folder's model.py in a process that can import neither mnas nor torchvision.
WITHOUT_MNAS = """
import importlib.util, pathlib, sys, torch
sys.dont_write_bytecode = True
torch.set_num_threads(1)
for folder in sorted(path for path in pathlib.Path.cwd().iterdir() if path.is_dir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network, case = module.build_model(), torch.load(folder / "case.pt")
    assert not network.training
    with torch.inference_mode():
        backbone = module.build_model(features_only=True)
        maps = backbone(case["images"])
        raw = network(case["images"])
        found = network.detect(case["images"]) if hasattr(network, "detect") else []
    assert backbone.feature_info == case["feature_info"]
    pairs = list(zip(maps, case["maps"], strict=True))
    pairs += list(zip(raw if isinstance(raw, tuple) else [raw], case["raw"], strict=True))
    pairs += [pair for own, one in zip(found, case["found"], strict=True) for pair in zip(own, one, strict=True)]
    difference = max(((a - b).abs().max() / max(1, b.abs().max())).item() for a, b in pairs)
    print(folder.name, difference, list(network.state_dict()) == case["keys"])
assert not {name.split(".")[0] for name in sys.modules} & {"mnas", "torchvision", "safetensors"}
"""


def isolated_python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-B", "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def lively(network: nn.Module, images: torch.Tensor, seed: int = 0) -> nn.Module:
    """With statistics of images, and weights whose scores differ as those of a trained network do."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
        elif isinstance(module, nn.Conv2d) and module.bias is not None and not name.startswith("backbone"):
            module.weight.data.normal_(std=module.in_channels**-0.5, generator=generator)
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def data_for(task: str) -> DenseData[Any]:
    return KINDS[task].load("shapes")


def model_for(name: str) -> DenseModel:
    task, head, network, size = CASES[name]
    arch, data = zoo.get(network, width=0.35, resolution=size), data_for(task)
    torch.manual_seed(0)
    pixels = np.stack([data.train.read(row, size).image for row in range(8)])
    images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), size)
    made = lively(dense_network(arch, head), images)
    return DenseModel(made, arch, task, head, data.classes, data.train.reading)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each network, with images and what the network that was handed over gives."""
    root = tmp_path_factory.mktemp("dense")
    for name in CASES:
        model = model_for(name)
        handed_over = hand_over(root / name, model, data_for(model.task), title=f'The "network" {name}')
        assert all(one.likeness.agreement == 1 and one.images == 8 for one in handed_over.files)
        assert [one.name for one in handed_over.files] == ["pytorch", *FORMS[model.task].onnx]
        network: Any = model.network
        images = torch.randn(model.architecture.input_shape(2), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            raw = network(images)
            found = [tuple(one) for one in network.detect(images)] if isinstance(network, DetectionNetwork) else []
            maps = network.backbone(images)
        assert all(len(one[0]) > 1 for one in found)
        torch.save({
            "images": images, "raw": raw if isinstance(raw, tuple) else [raw], "found": found, "maps": maps,
            "feature_info": list(network.backbone.feature_info), "keys": list(network.state_dict()),
        }, root / name / "case.pt")  # fmt: skip
    return root


def test_model_py_computes_the_same_without_mnas(exported: Path) -> None:
    done = isolated_python("-c", WITHOUT_MNAS, folder=exported)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == CASES.keys()
    assert max(float(row[1]) for row in rows) <= 1e-4, rows  # of the largest value: boxes are in pixels
    assert {row[2] for row in rows} == {"True"}


def test_linter_finds_nothing_in_model_py(exported: Path) -> None:
    done = isolated_python(
        "-m", "ruff", "check", "--isolated", "--no-cache", "--line-length=120", "--select=E,F,W,I,B,C4,RET,SIM,UP",
        "--target-version=py311", ".", folder=exported,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_onnx_files_give_what_the_network_gives_on_real_images(exported: Path, name: str) -> None:
    model, data = load_dense(exported / name), data_for(CASES[name][0])
    form = FORMS[model.task]
    sessions = [onnxruntime.InferenceSession(exported / name / file) for file in form.onnx.values()]
    for row in range(4):
        x = network_input(data.test.read(row, model.architecture.resolution).image, model)
        with torch.inference_mode():
            raw = form.raw(model.network, x)
            expected = [raw, form.finished(raw)][-len(sessions):]
        assert len(raw[0]) and (len(sessions) == 1 or len(expected[1][1]) > 5)
        for session, outputs in zip(sessions, expected, strict=True):
            own = run_session(session, x)
            assert [tuple(one.shape) for one in own] == [tuple(one.shape) for one in outputs]
            if len(own) == 3:  # suppression: as good as equal scores may change places
                agreement, difference = form.likeness(own, outputs)
                assert agreement == 1 and difference <= 1e-4
                assert own[1].tolist() == sorted(own[1].tolist(), reverse=True)
                continue
            for one, other in zip(own, outputs, strict=True):
                assert float((one - other).abs().max()) <= 1e-4 * max(1.0, float(other.abs().max()))
    if len(sessions) == 2:
        assert [one.name for one in sessions[1].get_outputs()] == ["boxes", "scores", "labels"]


def test_suppression_of_nothing_is_empty(exported: Path) -> None:
    model = load_dense(exported / "ssdlite")
    bias: Any = [*model.network.get_submodule("head.scores.0").children()][-1].bias
    predictors: Any = model.network.get_submodule("head.scores")
    for predictor in predictors:
        bias = predictor[-1].bias.data.view(6, -1)
        bias[:, 0], bias[:, 1:] = 1000, -1000  # all is background
    content = FORMS["detection"].model("onnx", model.network, 96)
    outputs = run_session(onnxruntime.InferenceSession(content), torch.zeros(1, 3, 96, 96))
    assert [tuple(one.shape) for one in outputs] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("name", ["lraspp", "ssdlite_v1"])
def test_predict_in_model_py_says_what_mnas_predict_says(exported: Path, name: str, tmp_path: Path) -> None:
    """In the picture's own pixels, turned upright."""
    from mnas.commands.dense_predict import PredictOptions, predict

    write_picture(tmp_path / "turned.jpg", width=90, height=50, orientation=6)
    model = load_dense(exported / name)
    (said,) = predict(exported / name, [tmp_path / "turned.jpg"], PredictOptions(output=tmp_path / "out"))["images"]
    assert (said["height"], said["width"]) == (90, 50)
    code = f"""
import json, runpy, torch
answer = runpy.run_path("model.py")["predict"]({str(tmp_path / "turned.jpg")!r})
print(json.dumps(answer.tolist() if hasattr(answer, "tolist") else answer))
"""
    done = isolated_python("-c", code, folder=exported / name)
    assert done.returncode == 0, done.stderr
    answer: Any = json.loads(done.stdout)
    with Image.open(said["file"]) as picture:
        assert picture.size == (50, 90)
        if model.task == "segmentation":
            assert picture.mode == "P" and np.asarray(picture).tolist() == answer
            shares = {one["class"]: one["share"] for one in said["predictions"]}
            assert shares == {
                name: pytest.approx(np.mean(np.asarray(picture) == number)) for number, name in
                enumerate(model.classes) if (np.asarray(picture) == number).any()
            }  # fmt: skip
        else:
            assert len(answer) == len(said["predictions"]) > 0
            for own, other in zip(answer, said["predictions"], strict=True):
                assert own["class"] == other["class"]
                assert own["probability"] == pytest.approx(other["probability"], abs=1e-3)
                assert own["box"] == pytest.approx(other["box"], abs=0.1)


def test_a_file_that_computes_something_else_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, form = model_for("ssdlite"), FORMS["detection"]
    other = lively(dense_network(model.architecture, model.head), torch.randn(2, 3, 96, 96), seed=5)
    make = type(form).model
    monkeypatch.setattr(type(form), "model", lambda self, name, network, size: make(self, name, other, size))
    with pytest.raises(MnasError, match="differ"):
        write_files(tmp_path, model, ["onnx"], data_for("detection").val, title="")
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.undo()
    monkeypatch.setattr(dense_files, "dense_source", lambda *args, **options: "def build_model():\n    1 / 0")
    with pytest.raises(ZeroDivisionError):
        write_files(tmp_path, model, ["pytorch"], None, title="")
    assert not (tmp_path / "model.py").exists()


def test_likeness_of_boxes() -> None:
    form, boxes = FORMS["detection"], torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20]])
    scores, labels = torch.tensor([0.9, 0.5]), torch.tensor([1, 2])
    assert form.likeness((boxes, scores, labels), (boxes, scores, labels)) == (1, 0)
    assert form.likeness((boxes, scores, labels.flip(0)), (boxes, scores, labels)).agreement == 0
    assert form.likeness((boxes[:1], scores[:1], labels[:1]), (boxes, scores, labels)).agreement == pytest.approx(2 / 3)
    nothing = (boxes[:0], scores[:0], labels[:0])
    assert form.likeness(nothing, nothing).agreement == 1
    assert form.likeness(nothing, (boxes, scores, labels)).agreement == 0


def test_the_picture_shows_truth_and_prediction_in_their_colours(exported: Path) -> None:
    for name in ("lraspp", "ssdlite"):
        model = load_dense(exported / name)
        picture = predictions_picture(model, data_for(model.task).test)
        assert picture is not None
        with Image.open(exported / name / "predictions.png") as written:
            assert np.array_equal(np.asarray(written), np.asarray(picture))
        assert picture.width == 3 * 220 + 4 * 6
        assert picture.height > 6 * 220


def test_overlays() -> None:
    image = Image.new("RGB", (8, 4), (100, 100, 100))
    mask = np.array([[0, 1, 2, 255, 0, 0, 0, 0]] * 4)
    drawn = np.asarray(masked(image, mask, 3))[0]
    assert drawn[0].tolist() == [100] * 3 and drawn[3].tolist() == [193] * 3  # background as it is, unknown white
    assert drawn[1].tolist() == [round(0.6 * one + 40) for one in colour_of(1)]
    for classes, mode in ((3, "P"), (300, "I;16")):
        kept = palette_image(np.minimum(mask, 2), classes)
        assert kept.mode == mode and np.asarray(kept).tolist() == np.minimum(mask, 2).tolist()
    assert len({colour_of(number) for number in range(100)}) == 100
    large = Image.new("RGB", (100, 80))
    pixels = np.asarray(boxed(large, [[10, 40, 60, 70]], ["a\u00e9"], [3]))
    assert pixels[70, 30].tolist() == pixels[50, 60].tolist() == list(colour_of(3))
    assert pixels[50, 30].tolist() == [0, 0, 0]
    assert boxed(large, [], [], []).tobytes() == large.tobytes()
    assert table_of([[large, large]], ("one", "two"), [("a class", 1)] * 9).width == 2 * 100 + 3 * 6


def test_shapes_has_the_classes_of_the_cases() -> None:
    assert len(shapes.CLASSES) + 1 == 5


