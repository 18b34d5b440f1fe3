"""A search for a device that computes in int8: latencies, accuracies and the file handed over are those of int8."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import Mnas

from mnas.data.sources import load_data
from mnas.export.folder import load_model
from mnas.latency.runtimes import get_runtime
from mnas.latency.table.table import load_table
from mnas.pipeline.quantised import as_file
from mnas.training.judgement import judge


@pytest.fixture(scope="module")
def quick() -> list[str]:
    settings = ("recipe.epochs=2", "max_table_error=1.0", "references=0", "supernet.epochs=1")
    return [word for one in settings for word in ("--set", one)]


def test_a_search_in_int8(mnas: Mnas, tiny: Path, quick: list[str], tmp_path: Path) -> None:
    done = mnas(
        "search", "--space", tiny, "--latency-ms", "30", "--trials", "2", "--runtime", "onnxruntime", "--precision",
        "int8", "--run", "run", "--baseline", "mobilenet_v3_small@0.35", *quick, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    winner, latency = done.json["networks"][0], done.json["networks"][0]["latencies"][0]
    assert latency["runtime"] == "onnxruntime_int8"
    assert latency["exported_file"] == "model_int8.onnx"
    folder = tmp_path / "run" / "winner"
    network, arch = load_model(folder)
    data = load_data("digits")
    size, cpu = arch.resolution, torch.device("cpu")
    from_file = as_file("onnxruntime_int8", data, network, arch)
    said = judge(from_file, data.test, size=size, device=cpu, num_classes=10, exact=True)
    assert said.accuracy == pytest.approx(winner["test_accuracy"]), "of the int8 network, not of the float one"
    image = torch.rand(1, 3, size, size)  # type: ignore[arg-type]
    again = get_runtime("onnxruntime_int8").open_file(folder / "model_int8.onnx", image, 1)(image)
    assert again == pytest.approx(from_file(image).numpy())
    (table,) = (tmp_path / "run").glob("latency_table*.yaml")
    assert load_table(table).provenance.dtype == "int8"


def test_runtimes_without_int8(mnas: Mnas) -> None:
    refused = mnas("search", "--latency-ms", "30", "--precision", "int8", "--runtime", "torch")
    assert (refused.code, "onnxruntime" in refused.err) == (2, True)
