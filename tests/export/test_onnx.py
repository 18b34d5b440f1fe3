"""The ONNX file: one file, any batch and size, the same function, without output."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import cv2
import onnx
import onnxruntime
import pytest
import torch
from handmade import HAND_MADE, usual_network
from torch import nn

from mnas.errors import BadInput, MissingDependency, MnasError
from mnas.export import onnx as export
from mnas.export.checks import check_runtime
from mnas.export.onnx import export_onnx
from mnas.export.onnx_graph import onnx_model
from mnas.latency.runtimes import get_runtime
from mnas.nn.network import Network, build
from mnas.space import zoo

SMALLEST = HAND_MADE["convolutions"]


def run(path: Path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.fixture(scope="module", params=["inverted_residuals", "pool_skips"])
def case(
    request: pytest.FixtureRequest, written: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Network, Path]:
    """A network and its ONNX file."""
    if request.param == "inverted_residuals":
        return written.network, written.folder / "model.onnx"
    network = usual_network(HAND_MADE[request.param], 10)
    return network, export_onnx(network, 32, tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 32), (75, 96), (224, 224)])
def test_same_logits_at_any_batch_and_size(
    case: tuple[Network, Path], batch: int, height: int, width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    network, path = case
    images = torch.randn(batch, 3, height, width)
    with torch.inference_mode():
        expected = network.eval()(images)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(run(path, images), expected, atol=1e-4, rtol=0)
    assert capfd.readouterr() == ("", "")  # onnxruntime warns if the file states wrong shapes


def test_opencv_computes_the_same(case: tuple[Network, Path]) -> None:
    """It takes a product with HardSigmoid for HardSwish (4.10 to 5.0, opencv#26141)."""
    network, path = case
    images = torch.randn(1, 3, 32, 32)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(images.numpy())
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(net.forward()), network.eval()(images), atol=1e-3, rtol=0)


@pytest.mark.parametrize("opset", [11, 13, 16, 17])
def test_older_opsets(case: tuple[Network, Path], opset: int, tmp_path: Path) -> None:
    network, _ = case
    path = export_onnx(network.eval(), 32, tmp_path / "old.onnx", opset)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]
    images = torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(run(path, images), network(images), atol=1e-4, rtol=0)


def test_opsets_that_are_not_written(case: tuple[Network, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="11 to 18"):
        export_onnx(case[0], 32, tmp_path / "x.onnx", 10)


def test_one_file_of_opset_18_without_paths_of_this_machine(case: tuple[Network, Path]) -> None:
    _, path = case
    assert [file.name for file in path.parent.iterdir() if "onnx" in file.name] == ["model.onnx"], "no weights apart"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["batch", 3, "height", "width"], "logits": ["batch", 10]}
    data = path.read_bytes()
    for trace in (str(Path(export.__file__).parents[2]), str(Path(torch.__file__).parent), ".py", "stack_trace"):
        assert trace.encode() not in data


def test_it_has_the_nodes_that_a_search_measures_and_pytorchs_names(case: tuple[Network, Path]) -> None:
    network, path = case
    graph, measured = onnx.load(path).graph, onnx_model(network.eval(), torch.zeros(1, 3, 32, 32)).graph
    assert [(node.op_type, node.name) for node in graph.node] == [(node.op_type, node.name) for node in measured.node]
    weights = {name for name, value in network.state_dict().items() if name.endswith("weight") and value.dim() > 1}
    assert weights == {weight.name for weight in graph.initializer if weight.name.endswith("weight")}


def test_export_is_silent_and_leaves_the_network_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = usual_network(SMALLEST, 5).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    capfd.readouterr()
    path = export_onnx(network, 32, str(tmp_path / "deep" / "model.onnx"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in (8, 32, 33, 64, 224):  # one session, which plans its memory by the shapes that the file states
        session.run(None, {"images": torch.zeros(1, 3, size, size).numpy()})
    assert capfd.readouterr() == ("", "")
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convolutions)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_file_with_other_logits_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = export._model

    def with_other_weights(network: Network) -> Any:
        model = real(network)
        weight = next(part for part in model.graph.initializer if part.name == "classifier.weight")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.5, weight.name))
        return model

    monkeypatch.setattr(export, "_model", with_other_weights)
    with pytest.raises(MnasError, match=r"model\.onnx at batch 1, 16x16"):
        export_onnx(usual_network(SMALLEST, 5), 16, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(wanted: str, package: str | None = None) -> Any:
        if wanted == name:
            raise ModuleNotFoundError(wanted)
        return real(wanted, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependency, match=f"{name}: pip install onnx onnxruntime"):
        export_onnx(build(SMALLEST, 5), 16, tmp_path / "model.onnx")


def test_a_rectangle(tmp_path: Path) -> None:
    network = usual_network(zoo.get("mobilenet_v3_small", 0.35, (40, 72)), 5)
    path = export_onnx(network, (40, 72), tmp_path / "model.onnx")
    for shape in ((1, 3, 40, 72), (3, 3, 40, 72), (2, 3, 64, 48)):
        images = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(run(path, images), network.eval()(images), atol=1e-4, rtol=0)
    checked = check_runtime(network.eval(), path, (40, 72), get_runtime("onnxruntime"))
    assert checked["largest_difference"] < 1e-3
