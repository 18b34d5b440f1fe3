"""`mnas export` and `mnas benchmark` as they are typed, on a small trained network."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Mnas
from PIL import Image
from references import reference

from mnas.cli.files import COLUMNS
from mnas.cli.options import FORMATS
from mnas.export.formats import format_names
from mnas.latency.runtimes import dtype_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained for one epoch on the digits, once for all of these tests."""
    from mnas.commands.models import DataOptions, TrainOptions, train
    from mnas.config import Recipe

    folder = tmp_path_factory.mktemp("trained") / "network"
    train("mobilenet_v3_small@0.35", DataOptions(), output=folder, options=TrainOptions(32, Recipe(epochs=1)))
    return folder


@pytest.fixture
def network(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "network"))


def test_several_formats_at_once(mnas: Mnas, network: Path) -> None:
    reference("timm")
    done = mnas("export", "network", "--format", "pytorch,safetensors,onnx,torch_export,timm", "-o", "files", "--json")
    assert done.code == 0, done.err
    rows = {row["format"]: row for row in done.json["exports"]}
    assert list(rows) == ["pytorch", "safetensors", "onnx", "torch_export", "timm"]
    assert {row["agreement"] for row in rows.values()} == {1.0}
    assert done.json["images"] == 287, "the search-validation images of the digits"
    assert len({row["top1"] for row in rows.values()}) == 1
    assert {name for name, row in rows.items() if "latency_ms" in row} == {"pytorch", "onnx", "torch_export"}
    low, high = rows["onnx"]["latency_interval_ms"]
    assert low <= rows["onnx"]["latency_ms"] <= high
    written = {Path(name).name for name in done.json["files"]}
    assert written == {path.name for path in (network.parent / "files").iterdir()}
    again = mnas("export", "network", "--format", "onnx", "-o", "files")
    assert (again.code, "model.onnx" in again.err) == (2, True)
    for name in ("model_int8.onnx", "model_int8_pixels.onnx"):
        (network.parent / name).write_text("of somebody")
        again = mnas("export", "network", "--precision", "int8", "--embed-preprocessing", "-o", ".")
        assert (again.code, name in again.err) == (2, True)
        assert (network.parent / name).read_text() == "of somebody"
        (network.parent / name).unlink()


def test_int8_and_pixels(mnas: Mnas, network: Path) -> None:
    done = mnas("export", "network", "--format", "onnx", "--precision", "fp32,int8", "--embed-preprocessing", "--json")
    assert done.code == 0, done.err
    names = [Path(name).name for name in done.json["files"]]
    assert names == ["model.onnx", "model_pixels.onnx", "model_int8.onnx", "model_int8_pixels.onnx"]
    assert all((network / name).exists() for name in names)
    int8 = done.json["exports"][2]
    assert int8["bytes"] < 0.5 * done.json["exports"][0]["bytes"]
    assert int8["of_float32"] > 0
    assert isinstance(int8["pays"], bool)
    assert set(int8["float_operators"]) <= {"HardSigmoid", "Mul", "Relu", "Clip", "Conv", "Gemm", "FusedConv"}
    table = mnas("export", "network", "--precision", "int8")
    assert (table.code, "int8" in table.out) == (0, True)


def test_files_that_take_pixels_predict_what_the_plain_ones_do(mnas: Mnas, network: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / f"{i}.png")
    assert mnas("export", "network", "--embed-preprocessing").code == 0
    images = ("0.png", "1.png", "2.png", "--top", "10", "--json")
    plain, pixels = (
        mnas("predict", "network", *images, "--file", f"network/{name}.onnx").json["images"]
        for name in ("model", "model_pixels")
    )  # fmt: skip
    for one, other in zip(plain, pixels, strict=True):
        theirs = {guess["class"]: guess["probability"] for guess in other["predictions"]}
        for guess in one["predictions"]:
            assert theirs[guess["class"]] == pytest.approx(guess["probability"], abs=1e-4)
    (table,) = mnas("benchmark", "network/model_pixels.onnx", "--json").json["networks"]
    assert (table["rows"][0]["input"], table["rows"][0]["latency_ms"] > 0) == ("pixels", True)


def test_a_format_that_fails_leaves_the_table_whole(
    mnas: Mnas, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = f"no {'very ' * 40}long reason"

    def refuse(*arguments: object) -> None:
        raise RuntimeError(why)

    monkeypatch.setattr("mnas.export.formats.torch_export.write", refuse)
    done = mnas("benchmark", "network", "--formats", "onnx,torch_export")
    assert done.code == 0, done.err
    rows = [line for line in done.out.splitlines() if line.startswith("│")]
    assert [("onnx" in line, "failed" in line) for line in rows] == [(True, False), (True, False), (False, True)]
    (said,) = [line for line in done.out.splitlines() if why in line]
    assert said.startswith("torch_export fp32: ")


def test_int8_says_what_it_costs(mnas: Mnas, network: Path) -> None:
    done = mnas("benchmark", "network", "--formats", "onnx", "--json")
    fp32, int8 = done.json["networks"][0]["rows"]
    assert int8["accuracy_lost"] == pytest.approx(fp32["top1"] - int8["top1"], abs=1e-5)
    assert "accuracy_lost" not in fp32


def test_benchmark_of_a_trained_network(mnas: Mnas, network: Path) -> None:
    done = mnas("benchmark", "network", "--formats", "onnx,safetensors", "--csv", "table.csv", "--json")
    assert done.code == 0, done.err
    (table,) = done.json["networks"]
    assert [(row["format"], row["precision"]) for row in table["rows"]] == [
        ("onnx", "fp32"), ("onnx", "int8"), ("safetensors", "fp32"),
    ]  # fmt: skip
    assert json.loads((network / "benchmark.json").read_text()) == table
    assert not (network / "model_int8.onnx").exists(), "a benchmark writes its table alone"
    with (network.parent / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["latency_ms"]) for row in rows[:2]] == [row["latency_ms"] for row in table["rows"][:2]]


def test_benchmark_of_an_architecture_and_of_a_file(mnas: Mnas, network: Path) -> None:
    done = mnas("benchmark", "mobilenet_v3_small@0.35", "network/model.onnx", "--formats", "onnx",
                "--precision", "fp32",
                "--resolution", "32", "--json")  # fmt: skip
    assert done.code == 0, done.err
    arch, file = done.json["networks"]
    assert (arch["images"], arch["rows"][0]["top1"], arch["input"]) == (0, None, [1, 3, 32, 32])
    assert (file["network"], len(file["rows"]), "top1" in file["rows"][0]) == ("model.onnx", 1, False)
    assert file["rows"][0]["latency_ms"] > 0


def test_images_that_are_gone(mnas: Mnas, network: Path) -> None:
    (network / "metrics.json").unlink()
    done = mnas("export", "network", "--format", "safetensors", "--json")
    assert done.code == 0
    assert done.json["images"] == 0
    assert done.json["exports"][0]["top1"] is None
    assert "random images" in done.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--format", "onx"), "onnx"),
        (("--precision", "int4"), "int8"),
        (("--format", "pytorch", "--embed-preprocessing"), "onnx, litert, openvino"),
        (("--format", "pytorch", "--opset", "17"), "--opset"),
        (("--opset", "99", "-o", "elsewhere"), "11 to 18"),
    ],
)
def test_bad_options(mnas: Mnas, network: Path, options: tuple[str, ...], named: str) -> None:
    before = sorted(os.listdir(network))
    refused = mnas("export", "network", *options)
    assert (refused.code, named in refused.err) == (2, True)
    assert sorted(os.listdir(network)) == before
    assert refused.err.count("\n") == 1 and not (network.parent / "elsewhere").exists(), "before any work"


def test_a_full_disk_leaves_nothing_half_written(mnas: Mnas, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    before = {path.name: path.read_bytes() for path in network.iterdir()}
    monkeypatch.setattr("mnas.export.onnx.write_atomic", full)
    done = mnas("export", "network", "--format", "safetensors,onnx")
    assert (done.code, "No space left" in done.err) == (2, True)
    assert {path.name: path.read_bytes() for path in network.iterdir()} == before


def test_the_help_names_every_format() -> None:
    assert ", ".join(format_names()) == FORMATS
    assert dtype_of("litert_int8") == "int8"
