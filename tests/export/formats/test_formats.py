"""The contract of every format: its file computes the network's function, is written whole, and says what it lacks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import installed, model_of

from mnas.commands.artifacts import Evidence, Wanted, made, outputs, wanted_of
from mnas.commands.files_table import rows_of
from mnas.errors import BadInput, MissingDependency
from mnas.export.formats import (
    EMBEDDED,
    FILES,
    QUANTISED,
    Model,
    embedding,
    file_name,
    format_names,
    get_format,
    quantising,
)


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of("inverted_residuals")


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(20, 3, 32, 32, generator=generator)
    return Evidence(images, np.arange(20) % 3, torch.randn(32, 3, 32, 32, generator=generator))


@pytest.mark.parametrize("name", format_names())
def test_a_file_computes_what_the_network_does(name: str, model: Model, evidence: Evidence, tmp_path: Path) -> None:
    installed(name)
    state = {key: value.clone() for key, value in model.network.state_dict().items()}
    (artifact,), expected = made(model, [Wanted(name, "fp32")], evidence, tmp_path)
    assert artifact.status == "ok"
    assert artifact.files[0] == tmp_path / FILES[name]
    assert {path.name for path in artifact.files} == set(os.listdir(tmp_path)), "nothing half-written stays"
    (row,) = rows_of([artifact], expected)
    assert row["largest_difference"] < 1e-4
    assert row["agreement"] == 1.0
    assert row["top1"] == pytest.approx(float((expected.logits.argmax(1) == evidence.labels).mean()))
    assert row["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("name", [name for name in format_names() if name != "pytorch"])
def test_many_images_at_once_where_it_says_so(name: str, model: Model, tmp_path: Path) -> None:
    form = installed(name)
    form.write(model, tmp_path / FILES[name])
    three = torch.randn(3, 3, 32, 32)
    if form.RUNTIME is None or form.FREE_BATCH:
        assert outputs(form, tmp_path / FILES[name], three).shape == (3, 3)
    if form.RUNTIME is not None and not form.FREE_BATCH:
        from mnas.latency.runtimes import get_runtime

        with pytest.raises(BadInput):
            get_runtime(form.RUNTIME).open_file(tmp_path / FILES[name], three, 1)


@pytest.mark.parametrize("name", QUANTISED)
def test_int8_is_smaller_and_agrees(name: str, model: Model, evidence: Evidence, tmp_path: Path) -> None:
    form = installed(name)
    assert quantising(form) is not None
    (plain, artifact), expected = made(model, wanted_of([name], ["fp32", "int8"]), evidence, tmp_path)
    assert artifact.status == "ok"
    assert artifact.files[0].name == file_name(name, "int8")
    rows = rows_of([plain, artifact], expected)
    assert 0 < rows[1]["largest_difference"] < 0.2 * np.abs(expected.logits).max()
    assert rows[1]["agreement"] >= 0.9
    assert sum(artifact.float_operators.values()) < 30


@pytest.mark.parametrize("name", QUANTISED)
def test_layers_that_are_kept_stay_in_float(name: str, model: Model, evidence: Evidence, tmp_path: Path) -> None:
    quantiser = quantising(installed(name))
    assert quantiser is not None
    path = tmp_path / f"all{Path(FILES[name]).suffix}"
    quantiser.quantise(model, evidence.calibration, (), path)
    none = sum(quantiser.operators(path).values())
    kept = ["blocks.1.conv_pw", "blocks.2.conv_pwl", "classifier"]
    path = tmp_path / f"kept{Path(FILES[name]).suffix}"
    quantiser.quantise(model, evidence.calibration, kept, path)
    assert sum(quantiser.operators(path).values()) >= none + 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", EMBEDDED)
def test_files_that_take_pixels(name: str, precision: str, model: Model, evidence: Evidence, tmp_path: Path) -> None:
    form = installed(name)
    assert embedding(form) is not None
    artifacts, _ = made(model, wanted_of([name], [precision], pixels=True), evidence, tmp_path)
    assert [artifact.status for artifact in artifacts] == ["ok", "ok"]
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    assert outputs(form, artifacts[1].files[0], pixels).shape == (1, 3)


@pytest.mark.parametrize("name", ["pool_skips", "convolutions", "linear_hidden"])
@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
def test_other_blocks_in_int8(name: str, format: str, tmp_path: Path) -> None:
    installed(format)
    model = model_of(name)
    size = model.size
    images = torch.randn(32, 3, size, size)  # type: ignore[arg-type]
    artifacts, _ = made(model, wanted_of([format], ["fp32", "int8"]), Evidence(images, None, images), tmp_path)
    assert [artifact.status for artifact in artifacts] == ["ok", "ok"]


def test_a_format_of_which_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in list(sys.modules):
        if name.startswith("mnas.export.formats.openvino") or name == "mnas.export.openvino":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependency, match="pip install openvino"):
        get_format("openvino")


def test_unknown_format() -> None:
    with pytest.raises(BadInput, match="did you mean 'litert'"):
        get_format("liter")
