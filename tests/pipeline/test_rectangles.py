"""Rectangular networks: one shape from the command line to the exported files."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from command import Mnas
from made_up_tables import made_up
from PIL import Image
from small_search import QUICK, TINY_SPACE

import mnas as package
from mnas.data.augment import normalise
from mnas.data.images import decode
from mnas.data.reading import Reading
from mnas.io.size import size_of
from mnas.nn.supernet import Supernet
from mnas.space.cost import layer_madds
from mnas.space.space import load_space

SIZES = "32x53,48x80"
SPOTS = {"near": slice(4, 24), "far": slice(136, 156)}
"""Columns of a bright spot that tells the classes apart; the central square has neither."""


def photos(root: Path, count: int = 20) -> Path:
    rng = np.random.default_rng(0)
    for name, columns in SPOTS.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 100, (96, 160, 3), dtype=np.uint8)
            top = rng.integers(20, 60)
            pixels[top : top + 20, columns] = 255
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


QUICKLY = ("--latency-ms", "30", "--trials", "2", "--estimator", "zero_cost", "--set", "recipe.epochs=2",
           "--set", "recipe.batch_size=8", "--latency-table", "table.yaml", "--set", "references=0")  # fmt: skip


def phone_table(space: Path, path: Path) -> None:
    """Of a device elsewhere, so that nothing is measured."""
    layers = load_space(space).with_resolutions(SIZES.split(",")).layers(2)
    made_up({layer: 0.01 + layer_madds(layer) / 1e6 for layer in layers}, origin="imported").save(path)


def test_a_search_as_typed(mnas: Mnas, tiny: Path, tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    phone_table(tiny, tmp_path / "table.yaml")
    typed = ("search", "--space", tiny, "--data", "photos", "--resolution", SIZES, "--no-flip", "--run", "run",
             *QUICKLY)  # fmt: skip
    done = mnas(*typed, "--json")
    assert done.code == 0, done.err
    assert "--fit" not in done.err, "nothing is cropped away"
    winner, metrics = tmp_path / "run" / "winner", done.json
    size = size_of(metrics["networks"][0]["resolution"])
    assert size in ((32, 53), (48, 80))
    shown = metrics["accuracy"]["resolution"]
    assert metrics["latency"]["resolution"] == shown and size_of(shown) == size
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]["resolution"] == ["32x53", "48x80"]
    with open(tmp_path / "run" / "leaderboard.csv", newline="") as file:
        assert {row["resolution"] for row in csv.DictReader(file)} <= {"32x53", "48x80"}
    assert shown in (winner / "README.md").read_text() and shown in (winner / "architecture.yaml").read_text()

    network, arch = package.load_model(winner)
    assert arch.resolution == size
    spec = json.loads((winner / "preprocessing.json").read_text())
    assert size_of(spec["input"]["shape"][2:]) == size
    session = onnxruntime.InferenceSession(winner / "model.onnx", providers=["CPUExecutionProvider"])
    picture = decode(tmp_path / "photos" / "far" / "00.png", size, Reading())
    images = normalise(torch.from_numpy(picture.copy())[None].permute(0, 3, 1, 2), size)
    assert images.shape == arch.input_shape(1)
    with torch.inference_mode():
        expected = network(images)
    (logits,) = session.run(None, {"images": images.contiguous().numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)
    alone = subprocess.run([sys.executable, "-B", "model.py"], cwd=winner, capture_output=True, text=True, check=True)
    assert f"(1, 3, {arch.input_shape(1)[2]}, {arch.input_shape(1)[3]}) to (1, 2)" in alone.stdout

    judged = mnas("evaluate", "run", "--json").json
    assert (judged["resolution"], judged["accuracy"]) == (shown, metrics["networks"][0]["test_accuracy"])
    again = mnas("export", "run", "--format", "pytorch", "-o", "again", "--json")
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "model.py").read_bytes() == (winner / "model.py").read_bytes()
    assert mnas("export", "run", "-o", "again/model.onnx", "--check", "onnxruntime").code == 0
    assert mnas("resume", "run").code == 0
    other = mnas(*(word.replace(SIZES, "32x53") if isinstance(word, str) else word for word in typed))
    assert other.code == 2 and "holds a run of another configuration" in other.err


@pytest.mark.usefixtures("without_pictures")
def test_a_training_as_typed(mnas: Mnas, tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    train = ("train", "mobilenet_v3_small@0.35", "--data", "photos", "--set", "epochs=1", "--json")
    for fit, word in (("pad", "fits within 32x80"), ("squeeze", "32x80 pixels whatever"), ("crop", "shape 32:80")):
        done = mnas(*train, "--resolution", "32x80", "--fit", fit, "-o", fit)
        assert done.code == 0, done.err
        assert done.json["networks"][0]["resolution"] == "32x80"
        assert word in (tmp_path / fit / "README.md").read_text()
        assert mnas("evaluate", fit, "--json").json["resolution"] == "32x80"
    assert "--fit" not in done.err
    done = mnas(*train[:1], "mobilenet_v3_small@0.35:32x56", *train[2:], "-o", "named")
    assert done.code == 0 and done.json["accuracy"]["resolution"] == "32x56", done.err
    assert "RESOLUTION = (32, 56)" in (tmp_path / "named" / "model.py").read_text()


@pytest.mark.parametrize("estimator", ["supernet", "train"])
@pytest.mark.usefixtures("without_pictures")
def test_estimators(whole_search: Callable[..., package.Result], estimator: str, tmp_path: Path) -> None:
    """At a proxy resolution: both sides shrink; the winner is trained at its own."""
    data = package.load_data(photos(tmp_path / "photos"), reading=Reading("squeeze"))
    result = whole_search(
        data=data, resolution=[(32, 53), "48x80"], proxy_resolution=32, latency_ms=2, estimator=estimator, trials=2,
        baseline=[],
        set=QUICK | {"supernet.batch_size": 8, "proxy.batch_size": 8, "recipe.batch_size": 8},
    )
    assert result.winner.architecture.resolution in ((32, 53), (48, 80))
    assert {trial.architecture.resolution for trial in result.trials} <= {(32, 53), (48, 80)}
    spec = json.loads((result.winner.folder / "preprocessing.json").read_text())
    assert spec["resize"]["height"] == spec["input"]["shape"][2]


@pytest.mark.usefixtures("without_pictures")
def test_a_space_of_rectangles_needs_no_option(whole_search: Callable[..., package.Result], tiny: Path) -> None:
    """Small images do not change its sizes, as they change those of squares; a resumed run has the same ones."""
    tiny.write_text(tiny.read_text().replace("resolution: [32, 48]", "resolution: [48x80, 32x53]"))
    result = whole_search(latency_ms=2, trials=2, baseline=[])
    state = json.loads((result.folder / "state.json").read_text())
    assert state["resolutions"] == ["48x80", "32x53"]
    assert result.winner.architecture.resolution in ((32, 53), (48, 80))
    assert {word for word in ("48x80", "32x53") if word in (result.folder / "trials.jsonl").read_text()}
    (result.folder / "state.json").write_text(json.dumps(state | {"done": False}))
    (result.folder / "winner" / "metrics.json").unlink()
    again = whole_search(latency_ms=2, trials=2, baseline=[])
    assert again.winner.architecture == result.winner.architecture


def test_a_subnet_is_its_network() -> None:
    space = load_space("v3_small").with_resolutions([(40, 72), (48, 88)])
    supernet = Supernet(space, 5).eval()
    arch = space.sample(random.Random(1))
    images = torch.rand(arch.input_shape(2))
    with torch.inference_mode():
        torch.testing.assert_close(supernet(images, arch), supernet.extract(arch)(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("words", "said"), [
    (("search", "--resolution", "96x", "--latency-ms", "5"), "HEIGHTxWIDTH"),
    (("search", "--resolution", "96,96x160", "--latency-ms", "5"), "squares alone"),
    (("search", "--resolution", "96x160,160x96", "--latency-ms", "5"), "one shape"),
    (("search", "--resolution", "96x7", "--latency-ms", "5"), "at least 8"),
    (("train", "mobilenet_v2", "-o", "x", "--resolution", "96x160,64"), "one size"),
    (("train", "mobilenet_v2", "-o", "x", "--resolution", "4"), "at least 8"),
    (("zoo", "--resolution", "axb"), "HEIGHTxWIDTH"),
    (("latency", "measure", "mobilenet_v2", "--resolution", "96x7"), "at least 8"),
    (("latency", "kit", "-o", "x.zip", "--resolution", "96x160x3"), "HEIGHTxWIDTH"),
])  # fmt: skip
def test_what_is_no_size(mnas: Mnas, words: tuple[str, ...], said: str) -> None:
    done = mnas(*words)
    assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1, done.err


def test_the_zoo(mnas: Mnas) -> None:
    listed = mnas("zoo", "--resolution", "96x160", "--json").json["networks"]
    square = mnas("zoo", "--resolution", "128", "--json").json["networks"]
    assert {row["resolution"] for row in listed} == {"96x160"} and {row["resolution"] for row in square} == {128}
    assert [row["params"] for row in listed] == [row["params"] for row in square]
    one = mnas("zoo", "mobilenet_v2", "--resolution", "96x160", "--json").json
    assert package.Architecture.from_dict(one) == package.zoo.get("mobilenet_v2", resolution=(96, 160))


def test_latency_commands(mnas: Mnas, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        TINY_SPACE.replace("depth: [1, 2]", "depth: 1").replace("kernel: [3, 5]", "kernel: 3")
        .replace("expansion: [2, 3]", "expansion: 2").replace("[0, 0.25]", "0").replace("[relu, hard_swish]", "relu")
        .replace("name: tiny", "name: one\nwidth: [0.5, 0.75, 1.0]")
    )  # fmt: skip
    options = ("--space", "one.yaml", "--classes", "10", "--resolution", "24x40,32x53", "--runtime", "onnxruntime")
    built = mnas("latency", "build", *options, "-o", "table.yaml", "--json")
    assert built.code == 0, built.err
    assert built.json["calibration"]["resolutions"] == ["24x40", "32x53"]
    checked = mnas("latency", "check", "table.yaml", "--space", "one.yaml", "--networks", "3", "--json")
    assert checked.code == 0, checked.err
    measured = mnas("latency", "measure", "mobilenet_v3_small@0.35", "mobilenet_v3_small@0.35:24x40", "--resolution",
                    "24x40", "--rounds", "10", "--seconds", "1", "--runtime", "onnxruntime", "--json")  # fmt: skip
    assert measured.code == 0 and measured.json["networks"][0]["latency_ms"] > 0, measured.err
    kit = mnas("latency", "kit", *options, "-o", "kit.zip", "--json")
    assert kit.code == 0 and kit.json["layers"] == built.json["layers"], kit.err
