"""The ONNX file: one file, any batch and size, the same function, in silence."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mnas.errors import MissingDependency, MnasError
from mnas.export import onnx as export
from mnas.export.onnx import export_onnx
from mnas.nn.network import Network, build
from mnas.space import zoo
from mnas.space.architecture import Architecture, Block, Head

ARCHITECTURES = {
    "mobilenet_v3_small": zoo.get("mobilenet_v3_small", resolution=32),
    "every_part": Architecture(
        16, Block("conv", 3, 2, 16, "relu6"),
        (
            (
                Block("mbconv", 5, 2, 24, "hard_swish", hidden=32, se=8, skip="pool"),
                Block("sepconv", 3, 2, 16, "relu", skip="pool"),
            ),
            (
                Block("conv", 3, 2, 32, "hard_swish", skip="pool"),
                Block("mbconv", 3, 1, 32, "relu", hidden=64, skip="identity"),
            ),
        ),
        Head(0, 24, "hard_swish"), "sigmoid",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small layers on several threads wait for one another, most of all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(arch: Architecture) -> Network:
    """A network whose batch normalisation has seen images and whose logits are of ordinary size."""
    torch.manual_seed(0)
    network = build(arch, 5, dropout=0.2).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            module.momentum = 0.9
    assert isinstance(network.classifier, nn.Linear)
    nn.init.normal_(network.classifier.weight, std=0.1)
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(8, 3, 64, 64))
    return network


def run(path: Path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    arch = ARCHITECTURES[request.param]
    network = trained(arch)
    return network, export_onnx(network, arch.resolution, tmp_path_factory.mktemp("onnx") / "model.onnx")


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
    assert capfd.readouterr() == ("", "")  # onnxruntime tells of shapes that are not as the file says


def test_one_file_of_a_common_opset_without_traces_of_the_machine(case: tuple[Network, Path]) -> None:
    _, path = case
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["batch", 3, "height", "width"], "logits": ["batch", 5]}
    data = path.read_bytes()
    for trace in (str(Path(export.__file__).parents[2]), str(Path(torch.__file__).parent), ".py", "stack_trace"):
        assert trace.encode() not in data


def test_silent_and_leaves_the_network_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = trained(ARCHITECTURES["mobilenet_v3_small"]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    capfd.readouterr()
    path = export_onnx(network, 32, tmp_path / "deep" / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in (8, 32, 33, 64, 224):  # one session, which plans its memory by the shapes that the file states
        session.run(None, {"images": torch.zeros(1, 3, size, size).numpy()})
    assert capfd.readouterr() == ("", "")
    assert network.training and all(module.training for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    wide = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1]
    assert wide and all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in wide)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = export._converted

    def spoilt(network: nn.Module, size: int) -> Any:
        model = convert(network, size)
        weight = next(part for part in model.graph.initializer if part.name == "classifier.weight")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 0.5, weight.name))
        return model

    monkeypatch.setattr(export, "_converted", spoilt)
    with pytest.raises(MnasError, match=r"batch 1, 16x16: its logits differ from the trained network's by "):
        export_onnx(trained(ARCHITECTURES["every_part"]), 16, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package_says_its_pip_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(wanted: str, package: str | None = None) -> Any:
        if wanted == name:
            raise ModuleNotFoundError(wanted)
        return real(wanted, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependency, match=f"needs {name}: pip install onnx onnxscript onnxruntime"):
        export_onnx(build(ARCHITECTURES["every_part"], 5), 16, tmp_path / "model.onnx")
