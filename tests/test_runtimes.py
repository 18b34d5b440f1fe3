from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnas import zoo
from mnas.architecture import Layer
from mnas.errors import BadInput, MissingDependency
from mnas.latency.onnx_graph import onnx_model
from mnas.latency.runtimes import get_runtime, runtime_names
from mnas.nn.network import build, module_of


def lively(module: nn.Module) -> nn.Module:
    """`module` in eval mode with batch normalisations that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.3, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def expect_equal(runtime: str, module: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = module(x).numpy()
    assert expected.std() > 1e-3
    found = np.asarray(get_runtime(runtime).prepare(module, x, 1)())
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# --- the contract -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", runtime_names())
def test_contract(runtime: str) -> None:
    adapter = get_runtime(runtime)
    assert adapter.name == runtime
    assert adapter.version()[0].isdigit()
    module = lively(module_of(Layer("mbconv", 12, 8, 8, 5, 1, 24, 8, "hard_sigmoid", "hard_swish", skip="identity")))
    layouts = [p.stride() for p in module.parameters()]
    x = torch.rand(2, 8, 12, 12)
    expect_equal(runtime, module, x)
    assert [p.stride() for p in module.parameters()] == layouts  # safetensors refuses changed ones
    run = adapter.prepare(module, x, 1)
    np.testing.assert_array_equal(np.asarray(run()), np.asarray(run()))


@pytest.mark.parametrize("runtime", runtime_names())
def test_threads_are_held_and_restored(runtime: str) -> None:
    torch.set_num_threads(1)
    adapter = get_runtime(runtime)
    with adapter.threads(2):
        if runtime == "torch":
            assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    with pytest.raises(RuntimeError, match="inside"), adapter.threads(2):
        raise RuntimeError("inside")
    assert torch.get_num_threads() == 1


def test_unknown_runtime() -> None:
    with pytest.raises(BadInput, match="unknown runtime 'onnx'; did you mean 'onnxruntime'"):
        get_runtime("onnx")


def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "mnas.latency.runtimes.onnxruntime", raising=False)
    with pytest.raises(MissingDependency, match="pip install onnx onnxruntime"):
        get_runtime("onnxruntime")


# --- onnxruntime ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_networks_are_the_same_in_onnxruntime(name: str) -> None:
    network = lively(build(zoo.get(name, width=0.5, resolution=40), num_classes=7))
    expect_equal("onnxruntime", network, torch.randn(1, 3, 40, 40))


OPERATORS: tuple[Any, ...] = ("conv", "sepconv", "mbconv")
ACTIVATIONS: tuple[Any, ...] = ("none", "relu", "relu6", "hard_swish")
GATES: tuple[Any, ...] = ("sigmoid", "hard_sigmoid")
LAYERS = [
    *(Layer("conv", 9, 5, 8, 3, 2, activation=activation) for activation in ACTIVATIONS),
    *(Layer("linear", 1, 12, 7, activation=activation) for activation in ACTIVATIONS),
    Layer("conv", 9, 8, 8, 3, 1, activation="relu", skip="identity"),
    Layer("pool", 7, 5, 5),
    *(
        Layer("mbconv", 9, 8, 16, kernel, 2, 24, 8, gate, activation)
        for kernel, gate, activation in zip((3, 5, 7), itertools.cycle(GATES), ACTIVATIONS[1:], strict=False)
    ),
    *(
        Layer("sepconv", 10, 8, 12, 3, 1, 0, 4, gate, "relu6", output_activation=activation)
        for gate, activation in itertools.product(GATES, ACTIVATIONS)
    ),
    *(
        Layer(operator, size, 8, out, 3, stride, 16 if operator == "mbconv" else 0, activation="relu", skip="pool")
        for operator, size, out, stride in itertools.product(OPERATORS, (7, 8), (4, 8, 13), (1, 2))
    ),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_are_the_same_in_onnxruntime(layer: Layer) -> None:
    size = () if layer.operator == "linear" else (layer.size, layer.size)
    expect_equal("onnxruntime", lively(module_of(layer)), 3 * torch.randn(2, layer.in_channels, *size))


def test_other_modules_have_no_onnx_form() -> None:
    with pytest.raises(BadInput, match="GRU: no ONNX form"):
        get_runtime("onnxruntime").prepare(nn.GRU(2, 2), torch.rand(1, 2), 1)


def test_a_session_has_the_threads_and_keeps_silent(capfd: pytest.CaptureFixture[str]) -> None:
    from mnas.latency.runtimes import onnxruntime as adapter

    module, x = nn.Linear(4, 3), torch.rand(1, 4)
    options = adapter._session(onnx_model(module, x).SerializeToString(), 2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    adapter.prepare(module, x, 1)()
    assert capfd.readouterr() == ("", "")


def test_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    adapter, network = get_runtime("onnxruntime"), lively(build(zoo.get("mnasnet_small", 0.5, 32), 5))
    x, path = torch.rand(1, 3, 32, 32), tmp_path / "model.onnx"
    path.write_bytes(onnx_model(network, x).SerializeToString())
    np.testing.assert_array_equal(
        np.asarray(adapter.prepare_file(path, x, 1)()), np.asarray(adapter.prepare(network, x, 1)())
    )
    with pytest.raises(BadInput, match=r"model.onnx: onnxruntime cannot run it"):
        adapter.prepare_file(path, torch.rand(1, 3, 31, 31), 1)
    path.write_bytes(path.read_bytes()[:1000])
    for broken in (path, tmp_path / "absent.onnx"):
        with pytest.raises(BadInput, match=f"{broken.name}: onnxruntime cannot run it"):
            adapter.prepare_file(broken, x, 1)
    with pytest.raises(BadInput, match=r"runs an exported model\.py"):
        get_runtime("torch").prepare_file(path, x, 1)  # an .onnx file
    assert capfd.readouterr() == ("", "")
