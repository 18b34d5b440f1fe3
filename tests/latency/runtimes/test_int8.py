"""Runtimes that quantise what they time: close to the module, smaller, in integers, with the float file's faults."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from outputs import array, lively
from small_models import installed, model_of
from torch import nn

from mnas.errors import BadInput, MissingDependency, MnasError
from mnas.export.formats import get_format, quantising
from mnas.latency.conditions import Conditions
from mnas.latency.runtimes import Runtime, dtype_of, get_runtime, runtime_names
from mnas.latency.table.provenance import provenance_here
from mnas.latency.timing.frame import input_shape, timed_module
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
    model, x = model_of("convolutions"), torch.rand(1, 3, 33, 33)
    path = tmp_path / f"network{adapter.suffix}"
    if adapter.name == "openvino_int8":
        with pytest.raises(BadInput, match="two files"):
            adapter.artifact(model.network, x)
        form = quantising(get_format("openvino"))
        assert form is not None
        form.quantise(model, x, (), path)
    else:
        path.write_bytes(adapter.artifact(model.network, x))
    with adapter.threads(1), torch.inference_mode():
        run, expected = adapter.open_file(path, x, 1), model.network(x).numpy()
        found, brighter = run(x), run(x + 1)
        assert array(adapter.prepare_file(path, x, 1)()).shape == (1, len(model.classes))
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert not np.array_equal(found, brighter)


def test_tables_say_int8(adapter: Runtime) -> None:
    assert provenance_here(adapter).dtype == "int8"
    assert adapter.name in str(Conditions(adapter.name))


@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_several_images_at_once(name: str) -> None:
    installed(name)
    with pytest.raises(BadInput, match="one image"):
        get_runtime(f"{name}_int8").artifact(timed_module(LAYER, in_frame=True), torch.rand(2, 1, 12, 12))


def test_one_process_quantises_all_for_openvino(tmp_path: Path) -> None:
    """One that fails does not end it; where it was ended, there is a new one."""
    installed("openvino")
    from mnas.export.quantize import nncf

    def quantise() -> int:
        get_runtime("openvino_int8").prepare(nn.Sequential(nn.Linear(4, 3)).eval(), torch.rand(1, 4), 1)()
        assert nncf._running is not None
        return nncf._running._process.pid

    first = quantise()
    with pytest.raises(MnasError, match="nncf cannot"):
        nncf.quantise(tmp_path / "absent")
    assert quantise() == first
    os.kill(first, signal.SIGKILL)
    with pytest.raises(MnasError, match=f"status -{signal.SIGKILL:d}"):
        quantise()
    assert quantise() != first
    nncf.end()
    assert nncf._running is None


@pytest.mark.parametrize(
    ("runtime", "package", "command"),
    [
        ("executorch_int8", "executorch", "pip install executorch"),
        ("openvino_int8", "openvino", "pip install openvino onnx nncf"),
        ("openvino_int8", "nncf", "pip install openvino onnx nncf"),
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
