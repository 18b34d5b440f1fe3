"""A search for a device that computes in int8: latencies, accuracies and the file handed over are those of int8."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import Mnas
from small_models import installed, model_of

from mnas.data.sample import sample_images
from mnas.data.sources import load_data
from mnas.export.folder import load_model
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import load_table
from mnas.pipeline.quantised import as_file
from mnas.training.judgement import judge

SPACE = """
name: small
reference: mobilenet_v3_small
resolution: [32]
stem: {channels: 8, kernel: 3, stride: 2, activation: relu}
stages:
  - {channels: [8, 16], stride: 2, depth: 1, kernel: [3, 5], expansion: 2, activation: relu}
head: {channels: 0, hidden: 0, activation: none}
"""


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("runtime", "file"), [("onnxruntime", "model_int8.onnx"), ("openvino", "model_int8.xml")]
)  # fmt: skip
def test_a_search_in_int8(
    runtime: str, file: str, mnas: Mnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed({"onnxruntime": "onnx"}.get(runtime, runtime))
    monkeypatch.setattr("mnas.latency.table.calibrate.FITTED", 4)
    monkeypatch.setattr("mnas.latency.table.calibrate.HELD_OUT", 2)
    Path("small.yaml").write_text(SPACE)
    settings = ("recipe.epochs=1", "recipe.images=200", "max_table_error=10", "references=0", "supernet.epochs=1")
    done = mnas(
        "search", "--space", "small.yaml", "--latency-ms", "30", "--trials", "2", "--runtime", runtime, "--precision",
        "int8", "--run", "run", "--baseline", "mobilenet_v3_small@0.35",
        *(word for one in settings for word in ("--set", one)), "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    winner, latency = done.json["networks"][0], done.json["networks"][0]["latencies"][0]
    assert latency["runtime"] == f"{runtime}_int8"
    assert latency["exported_file"] == file
    folder = tmp_path / "run" / "winner"
    network, arch = load_model(folder)
    data = load_data("digits")
    size, cpu = arch.resolution, torch.device("cpu")
    from_file = as_file(f"{runtime}_int8", data, network, arch)
    said = judge(from_file, data.test, size=size, device=cpu, num_classes=10, exact=True)
    assert said.accuracy == pytest.approx(winner["test_accuracy"]), "of the int8 network, not of the float one"
    image = torch.rand(1, 3, size, size)  # type: ignore[arg-type]
    again = get_runtime(f"{runtime}_int8").open_file(folder / file, image, 1)(image)
    assert again == pytest.approx(from_file(image).numpy())
    (table,) = (tmp_path / "run").glob("latency_table*.yaml")
    assert load_table(table).provenance.dtype == "int8"


def test_what_executorch_judges_is_its_int8_file() -> None:
    installed("executorch")
    model, data = model_of("convolutions"), load_data("digits")
    images, _ = sample_images(data.test, 8, 33)
    said = as_file("executorch_int8", data, model.network, model.architecture)(images)
    with torch.inference_mode():
        expected = model.network(images)
    difference = float((said - expected).abs().max())
    assert 0 < difference < 0.1 * float(expected.abs().max())


def test_runtimes_without_int8(mnas: Mnas) -> None:
    refused = mnas("search", "--latency-ms", "30", "--precision", "int8", "--runtime", "torch")
    assert refused.code == 2
    for able in ("executorch", "litert", "onnxruntime", "openvino"):
        assert able in refused.err
