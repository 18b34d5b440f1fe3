"""Runtimes that quantise what they time: close to the module, smaller, in integers, with the float file's faults."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from outputs import array, lively

from mnas.errors import BadInput, MissingDependency
from mnas.latency.conditions import Conditions
from mnas.latency.runtimes import Runtime, dtype_of, get_runtime, runtime_names
from mnas.latency.table.provenance import provenance_here
from mnas.latency.timing.frame import input_shape, timed_module
from mnas.nn.network import build
from mnas.space import zoo
from mnas.space.layer import Layer

LAYER = Layer("mbconv", 12, 8, 8, 5, 1, 24, 8, "hard_sigmoid", "hard_swish", skip="identity")
LAYERS = (LAYER, Layer("conv", 12, 3, 8, 3, 2, activation="hard_swish"), Layer("linear", 1, 16, 10))
INT8 = [name for name in runtime_names() if dtype_of(name) == "int8"]


@pytest.fixture(params=INT8)
def adapter(request: pytest.FixtureRequest) -> Runtime:
    torch.manual_seed(0)
    try:
        return get_runtime(request.param)
    except MissingDependency as error:
        if os.environ.get("MNAS_TEST_ALL_RUNTIMES"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_layer_in_its_frame(adapter: Runtime, layer: Layer, capfd: pytest.CaptureFixture[str]) -> None:
    module = lively(timed_module(layer, in_frame=True))
    x = torch.rand(input_shape(layer, 1, in_frame=True))
    with adapter.threads(1), torch.inference_mode():
        run = adapter.prepare(module, x, 1)
        found, expected = array(run()), module(x).numpy()
        assert adapter.timed_ms(run, 2) > 0
    assert found.shape == expected.shape
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert capfd.readouterr() == ("", "")


def test_a_network_as_a_file(adapter: Runtime, tmp_path: Path) -> None:
    arch = zoo.get("mobilenet_v3_small", 0.5, 32)
    module, x = lively(build(arch, 5)), torch.rand(1, 3, 32, 32)
    path = tmp_path / f"network{adapter.suffix}"
    path.write_bytes(adapter.artifact(module, x))
    in_float = get_runtime(adapter.name.removesuffix("_int8"))
    assert path.stat().st_size < 0.6 * len(in_float.artifact(module, x))
    with adapter.threads(1), torch.inference_mode():
        found, expected = adapter.open_file(path, x, 1)(x), module(x).numpy()
        assert array(adapter.prepare_file(path, x, 1)()).shape == (1, 5)
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_tables_say_int8(adapter: Runtime) -> None:
    assert provenance_here(adapter).dtype == "int8"
    assert adapter.name in str(Conditions(adapter.name))


def test_several_images_at_once() -> None:
    with pytest.raises(BadInput, match="one image"):
        get_runtime("litert_int8").artifact(timed_module(LAYER, in_frame=True), torch.rand(2, 1, 12, 12))


@pytest.mark.parametrize(
    ("runtime", "package", "command"),
    [
        ("litert_int8", "ai_edge_litert", "pip install litert-quantizer"),
        ("litert_int8", "litert_quantizer", "pip install litert-quantizer"),
        ("onnxruntime_int8", "onnxruntime", "pip install onnx onnxruntime"),
    ],
)
def test_one_that_is_not_installed_says_how_to_get_it(
    runtime: str, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = (
        f"mnas.latency.runtimes.{runtime}", f"mnas.latency.runtimes.{runtime.removesuffix('_int8')}",
        "mnas.latency.runtimes.onnx_session", "mnas.export.quantize.litert", "mnas.export.tflite_graph",
    )  # fmt: skip
    for module in [module for module in sys.modules if module.split(".")[0] == package or module in ours]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=command):
        get_runtime(runtime)
