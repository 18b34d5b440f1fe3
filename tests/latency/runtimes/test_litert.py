"""LiteRT, and the TFLite files that are written for it. What all runtimes have in common is in test_runtimes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert")

from outputs import LAYERS, expect_equal, lively

from mnas.errors import BadInput, MissingDependency
from mnas.export.tflite_graph import ALIGNMENT, _Graph, schema, tflite_model
from mnas.io.size import sides
from mnas.latency.runtimes import get_runtime
from mnas.latency.runtimes import litert as adapter
from mnas.nn.network import build, module_of
from mnas.space import zoo
from mnas.space.layer import Layer


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# --- the same function as in PyTorch ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_networks_are_the_same(name: str) -> None:
    network = lively(build(zoo.get(name, width=0.5, resolution=40), num_classes=7))
    expect_equal("litert", network, torch.randn(1, 3, 40, 40))


EVEN_SIZES = [Layer("mbconv", 8, 4, 4, kernel, 2, 8, activation="relu6") for kernel in (3, 5, 7)]


@pytest.mark.parametrize("layer", [*LAYERS, *EVEN_SIZES], ids=str)
def test_blocks_are_the_same_and_run_in_xnnpack_alone(layer: Layer) -> None:
    size = () if layer.operator == "linear" else sides(layer.size)
    module, x = lively(module_of(layer)), 3 * torch.randn(2, layer.in_channels, *size)
    expect_equal("litert", module, x)
    interpreter = adapter._interpreter(tflite_model(module, x), 1)
    delegated = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    assert len(delegated) == 1
    assert interpreter.get_input_details()[0]["index"] in delegated[0]["inputs"]
    assert interpreter.get_output_details()[0]["index"] in delegated[0]["outputs"]


def test_padding_is_written_out_only_where_tflite_pads_otherwise() -> None:
    def pads(layer: Layer) -> int:
        model = schema.ModelT.InitFromPackedBuf(
            tflite_model(module_of(layer).eval(), torch.rand(1, layer.in_channels, *sides(layer.size)))
        )
        return [code.builtinCode for code in model.operatorCodes].count(schema.BuiltinOperator.PAD)

    assert pads(Layer("conv", 8, 3, 4, 3, 2)) == 1
    assert pads(Layer("conv", 9, 3, 4, 3, 2)) == pads(Layer("conv", 8, 3, 4, 3, 1)) == pads(Layer("conv", 8, 3, 4)) == 0


def test_a_module_without_a_form() -> None:
    with pytest.raises(BadInput, match="GRU"):
        adapter.prepare(nn.GRU(2, 2), torch.rand(1, 2), 1)
    layer = module_of(Layer("linear", 1, 2, 2, activation="relu"))
    layer.act = nn.GELU()
    with pytest.raises(BadInput, match="GELU"):
        adapter.prepare(layer, torch.rand(1, 2), 1)


# --- the runtime ------------------------------------------------------------------------------------------------


def test_the_input_lasts_and_a_kept_output_does_not_stop_the_next_run() -> None:
    layer = Layer("mbconv", 14, 8, 8, 3, 1, 24, activation="relu", skip="identity")
    run = adapter.prepare(lively(module_of(layer)), torch.randn(1, 8, 14, 14), 1)
    kept = run()
    first = np.array(kept)
    assert first.shape == (1, 8, 14, 14)
    for _ in range(3):
        np.testing.assert_array_equal(np.array(run()), first)
    assert adapter.timed_ms(run, 2) > 0
    np.testing.assert_array_equal(np.array(kept), first)


def test_as_many_threads_work_as_asked_for() -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not tell threads' times")
    network = build(zoo.get("mobilenet_v3_large"), 10).eval()
    x = torch.rand(1, 3, 224, 224)
    assert _threads_at_work(adapter.prepare(network, x, 1)) == 1
    assert _threads_at_work(adapter.prepare(network, x, 2)) == 2


def _threads_at_work(run: Callable[[], object]) -> int:
    """How many threads of this process worked a good part of the time of `run`."""
    run()
    before, end = _ticks(), time.process_time() + 0.4
    while time.process_time() < end:
        run()
    return sum(ticks - before.get(thread, 0) >= 8 for thread, ticks in _ticks().items())


def _ticks() -> dict[str, int]:
    """User time of each thread so far, in hundredths of a second."""
    stats = {path.name: (path / "stat").read_text() for path in Path("/proc/self/task").iterdir()}
    return {name: int(stat.rpartition(")")[2].split()[11]) for name, stat in stats.items()}


def test_a_fresh_process_prints_nothing() -> None:
    code = """
import torch
from mnas.latency.runtimes import get_runtime
get_runtime("litert").prepare(torch.nn.Linear(4, 3), torch.rand(1, 4), 2)()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", ["ai_edge_litert", "flatbuffers"])
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("mnas.latency.runtimes.litert", "mnas.export.tflite_graph"):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingDependency, match=r"litert.*pip install ai-edge-litert"):
        get_runtime("litert")


# --- files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def network() -> nn.Module:
    return lively(build(zoo.get("mnasnet_small", 0.5, 32), 5))


X = torch.rand(1, 3, 32, 32)


def test_weights_are_aligned_in_the_file(network: nn.Module) -> None:
    content = tflite_model(network, X)
    assert content[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(content)
    tables = [model.Buffers(i)._tab for i in range(model.BuffersLength())]
    starts = [table.Vector(table.Offset(4)) for table in tables if table.Offset(4)]
    assert len(starts) > 50
    assert not any(start % ALIGNMENT for start in starts)


def test_files_of_either_layout(tmp_path: Path, network: nn.Module, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(adapter.artifact(network, X))
    np.testing.assert_array_equal(_array(adapter.prepare_file(path, X, 1)), _array(adapter.prepare(network, X, 1)))

    layer = lively(module_of(Layer("conv", 8, 3, 4, 3, 1)))
    x = torch.rand(1, 3, 8, 8)
    path.write_bytes(adapter.artifact(layer, x))
    np.testing.assert_array_equal(_array(adapter.prepare_file(path, x, 1)), _array(adapter.prepare(layer, x, 1)))

    graph = _Graph(nn.Identity())
    first = graph.tensor((1, 3, 8, 8))
    path.write_bytes(graph.packed(first, graph.operator("LOGISTIC", [first], (1, 3, 8, 8))))
    np.testing.assert_allclose(_array(adapter.prepare_file(path, x, 1)), torch.sigmoid(x), rtol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_faulty_files(tmp_path: Path, network: nn.Module, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.tflite"
    content = adapter.artifact(network, X)

    def refusal(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"model\.tflite: .*litert") as caught:
            adapter.prepare_file(path, X, 1)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for broken in (b"", content[:-1000], content[:1000], b"TFL3" + content, bytes(1000), b"\x08\x08\x12\x07pytorch"):
        refusal(broken)
    other = refusal(tflite_model(network, torch.rand(1, 3, 40, 40)))
    assert "(1, 40, 40, 3)" in other and "(1, 32, 32, 3)" in other
    two = schema.ModelT.InitFromPackedBuf(content)
    two.subgraphs[0].outputs = np.array([*two.subgraphs[0].outputs, 0], np.int32)
    assert "2 outputs" in refusal(_packed(two))
    quantised = _Graph(nn.Identity())
    first = quantised.tensor((1, 32, 32, 3), schema.TensorType.INT32)
    assert "FLOAT32" in refusal(quantised.packed(first, quantised.operator("LOGISTIC", [first], (1, 32, 32, 3))))
    with pytest.raises(BadInput, match=r"absent\.tflite: "):
        adapter.prepare_file(tmp_path / "absent.tflite", X, 1)
    assert capfd.readouterr() == ("", "")


def _array(run: Callable[[], object]) -> Any:
    return np.array(run())


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
