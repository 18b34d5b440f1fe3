from __future__ import annotations

import gc
import importlib
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from outputs import LAYERS, array, expect_close, expect_equal, lively
from torch import nn

from mnas.errors import BadInput, MissingDependency
from mnas.export.onnx_graph import onnx_model
from mnas.io.size import sides
from mnas.latency.runtimes import Runtime, dtype_of, get_runtime, runtime_names
from mnas.latency.timing.frame import input_shape, timed_module
from mnas.nn.network import build, module_of
from mnas.space import zoo
from mnas.space.layer import Layer
from mnas.space.space import load_space

NEED_GPU = ("cuda", "cuda_graph")
ALL_INSTALLED = bool(os.environ.get("MNAS_TEST_ALL_RUNTIMES"))
"""Set where every runtime's package is there, so that nothing but a missing GPU is a reason to skip."""


def installed(runtime: str) -> Runtime:
    """The adapter; the test is skipped where what it needs is missing."""
    try:
        return get_runtime(runtime)
    except MissingDependency as error:
        if ALL_INSTALLED and runtime not in NEED_GPU:
            raise
        pytest.skip(str(error))


FLOAT = [name for name in runtime_names() if dtype_of(name) == "float32"]
"""Those of int8 have tests of their own: test_int8.py."""


@pytest.fixture(params=FLOAT)
def adapter(request: pytest.FixtureRequest) -> Runtime:
    return installed(request.param)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


LAYER = Layer("mbconv", 12, 8, 8, 5, 1, 24, 8, "hard_sigmoid", "hard_swish", skip="identity")


def layer_with_se() -> nn.Module:
    return lively(module_of(LAYER))


# --- the contract -----------------------------------------------------------------------------------------------


def test_a_layer_computes_what_pytorch_does(adapter: Runtime, capfd: pytest.CaptureFixture[str]) -> None:
    """A layer as tables time it, of two images; of one in `test_many_that_are_prepared_keep_what_they_read`."""
    module = lively(timed_module(LAYER, in_frame=adapter.framed))
    expect_same(adapter, module, torch.rand(input_shape(LAYER, 2, in_frame=adapter.framed)))
    assert capfd.readouterr() == ("", "")


def test_a_network_computes_what_pytorch_does(
    adapter: Runtime, tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    space, rng = load_space(str(tiny)), random.Random(0)
    arch = min((space.sample(rng) for _ in range(50)), key=lambda arch: len(arch.layers(5)))
    module = lively(build(arch, 5))
    nn.init.normal_(module.get_parameter("classifier.weight"))  # so that logits are large beside the tolerance
    for batch in (1,) if adapter.name == "torch_compile" else (1, 2):  # which compiles for each batch anew
        expect_same(adapter, module, torch.randn(batch, 3, arch.resolution, arch.resolution))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [(10, 13), (9, 16)])
def test_a_rectangle_computes_what_pytorch_does(adapter: Runtime, size: tuple[int, int]) -> None:
    """As tables time it, with a stride over odd and even sides."""
    for layer in (replace(LAYER, size=size, stride=2, skip="none"), Layer("conv", size, 3, 8, 3, 2, activation="relu")):
        module = lively(timed_module(layer, in_frame=adapter.framed))
        x = torch.randn(input_shape(layer, 1, in_frame=adapter.framed))
        assert layer.operator == "mbconv" or x.shape[2:] == size
        expect_same(adapter, module, x)


def expect_same(adapter: Runtime, module: nn.Module, x: torch.Tensor) -> None:
    """Also in the second run, and with the module left as it was."""
    state = {name: (value.clone(), value.stride()) for name, value in module.state_dict().items()}
    with adapter.threads(1):
        run = adapter.prepare(module, x, 1)
        first, second = array(run()), array(run())
        assert adapter.timed_ms(run, 2) > 0
    expect_close(first, module, x, 1e-3)
    np.testing.assert_array_equal(first, second)
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name][0])
        assert value.stride() == state[name][1]  # safetensors refuses changed ones
    assert not module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_many_that_are_prepared_keep_what_they_read(adapter: Runtime) -> None:
    """A layer's weights and input are its own also when nothing else holds them, and memory is given out again."""
    count = 2 if adapter.name in ("executorch", "torch_compile") else 8
    expected, runs = [], []
    with adapter.threads(1):
        for _ in range(count):
            module, x = layer_with_se(), torch.rand(1, 8, 12, 12)
            with torch.inference_mode():
                expected.append(module(x).numpy())
            runs.append(adapter.prepare(module, x, 1))
            del module, x
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.full((1 << 20,), torch.nan, device="cuda")
        found = [array(run()) for run in runs]
    for one, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-3, atol=1e-3 * max(1.0, float(np.abs(wanted).max())))


def test_an_artifact_is_a_file_that_runs(adapter: Runtime, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module, x = layer_with_se(), torch.rand(1, 8, 12, 12)
    path = tmp_path / f"layer{adapter.suffix}"
    content = adapter.artifact(module, x)
    path.write_bytes(content)
    with adapter.threads(1):
        for file in (path, str(path)):
            expect_close(adapter.prepare_file(file, x, 1)(), module, x, 1e-3)
        with pytest.raises(BadInput, match=path.name):
            adapter.prepare_file(path, torch.rand(1, 9, 12, 12), 1)
    assert capfd.readouterr() == ("", "")


def test_an_opened_file_computes_other_images(adapter: Runtime, tmp_path: Path) -> None:
    module, x = lively(nn.Sequential(module_of(LAYER), nn.AdaptiveAvgPool2d(1))), torch.rand(1, 8, 12, 12)
    path = tmp_path / f"layer{adapter.suffix}"
    path.write_bytes(adapter.artifact(module, x))
    with adapter.threads(1):
        run = adapter.open_file(path, x, 1)
        first, second = run(x), run(x + 1)
        assert not np.array_equal(first, second)
        expect_close(first, module, x, 1e-3)
        expect_close(second, module, x + 1, 1e-3)
        with pytest.raises(BadInput, match="missing"):
            adapter.open_file(tmp_path / f"missing{adapter.suffix}", x, 1)


@pytest.mark.parametrize("fault", ["truncated", "empty", "text", "archive", "absent", "folder"])
def test_a_faulty_file_is_named(
    adapter: Runtime, fault: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, x = tmp_path / f"model{adapter.suffix}", torch.rand(1, 4)
    match fault:
        case "truncated":
            content = adapter.artifact(nn.Linear(4, 3).eval(), x)
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.touch()
        case "text":
            path.write_text("this is not a model\n" * 100)
        case "archive":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("hello", "world")
        case "folder":
            path.mkdir()
    with adapter.threads(1), pytest.raises(BadInput) as caught:
        adapter.prepare_file(path, x, 1)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_says_what_it_is(adapter: Runtime) -> None:
    packages = {"litert": "ai-edge-litert", "opencv": "opencv-python-headless"}
    if adapter.name in ("executorch", "litert", "onnxruntime", "opencv", "openvino"):
        assert metadata.version(packages.get(adapter.name, adapter.name)).startswith(adapter.version())
    else:
        assert adapter.version() == torch.__version__  # 2.13.0+cu130, where the package is 2.13.0
    assert adapter.device_name()
    assert adapter.suffix.startswith(".")


BUSY_THREADS = """
import json, os, sys, time, torch
from mnas.space.layer import Layer
from mnas.latency.runtimes import get_runtime
from mnas.nn.network import module_of

def ticks():  # of processor time, of each thread
    found = {}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/stat") as file:
            words = file.read().rpartition(")")[2].split()
        found[thread] = int(words[11]) + int(words[12])
    return found

adapter = get_runtime(sys.argv[1])
module, x = module_of(Layer("conv", 56, 64, 128, 3, 1, activation="relu")).eval(), torch.rand(1, 64, 56, 56)
busy = []
for count in (1, 2):
    with adapter.threads(count):
        run = adapter.prepare(module, x, count)
        run()
        before, start = ticks(), time.process_time()
        while time.process_time() - start < 0.5:
            run()
        used = {thread: now - before.get(thread, 0) for thread, now in ticks().items()}
        busy.append(sum(one > 0.1 * max(used.values()) for one in used.values()))
print(json.dumps({"busy": busy}))
"""


@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in Linux's /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: runtimes may use one thread when asked for two")
@pytest.mark.parametrize("runtime", [name for name in runtime_names() if name not in NEED_GPU])
def test_uses_as_many_threads_as_asked(runtime: str) -> None:
    """And says nothing, also when a process uses it for the first time."""
    installed(runtime)
    command = [sys.executable, "-W", "error", "-c", BUSY_THREADS, runtime]
    tries: list[object] = []
    while not tries or (len(tries) < 4 and tries[-1] != {"busy": [1, 2]}):  # a busy neighbour may take a thread's core
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr == ""
        tries.append(json.loads(done.stdout))
    assert tries[-1] == {"busy": [1, 2]}


def test_threads_are_held_and_restored(adapter: Runtime) -> None:
    def count() -> int:
        if adapter.name == "executorch":
            return int(importlib.import_module("executorch.extension.pybindings._C")._threadpool_get_thread_count())
        return torch.get_num_threads()

    with adapter.threads(1):
        with adapter.threads(2):
            inside = count()
        assert count() == 1
        with pytest.raises(RuntimeError, match="inside"), adapter.threads(2):
            raise RuntimeError("inside")
        assert count() == 1
    assert inside == (2 if adapter.name in ("torch", "torch_compile", "executorch") else 1)


def test_unknown_runtime() -> None:
    with pytest.raises(BadInput, match=r"'onnx'.*'onnxruntime'"):
        get_runtime("onnx")


@pytest.mark.parametrize(
    ("runtime", "package", "command"),
    [
        ("executorch", "executorch", "pip install executorch"),
        ("litert", "ai_edge_litert", "pip install ai-edge-litert"),
        ("onnxruntime", "onnxruntime", "pip install onnx onnxruntime"),
        ("opencv", "cv2", "pip install opencv-python-headless onnx"),
        ("openvino", "openvino", "pip install openvino onnx"),
    ],
)
def test_a_runtime_that_is_not_installed_says_how_to_get_it(
    runtime: str, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"mnas.latency.runtimes.{runtime}", raising=False)
    with pytest.raises(MissingDependency, match=f"{runtime}.*: {command}"):
        get_runtime(runtime)


@pytest.mark.parametrize("runtime", NEED_GPU)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(runtime: str) -> None:
    with pytest.raises(MissingDependency, match="NVIDIA GPU"):
        get_runtime(runtime)


# --- torch and torch_compile ------------------------------------------------------------------------------------


def test_torch_runs_exported_models_only(tmp_path: Path) -> None:
    path, x = tmp_path / "model.onnx", torch.rand(1, 4)
    path.write_bytes(get_runtime("onnxruntime").artifact(nn.Linear(4, 3), x))
    with pytest.raises(BadInput, match=r"model\.onnx: .*model\.py.*\.pt2"):
        get_runtime("torch").prepare_file(path, x, 1)
    path = tmp_path / "other.py"
    path.write_text("answer = 42\n")
    with pytest.raises(BadInput, match=r"other\.py: .*build_model\(\)"):
        get_runtime("torch").prepare_file(path, x, 1)
    path.write_text("def build_model(:\n")
    with pytest.raises(BadInput, match=r"other\.py: .*syntax"):
        get_runtime("torch").prepare_file(path, x, 1)


def test_torch_compile_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.delitem(sys.modules, "mnas.latency.runtimes.torch_compile", raising=False)
    without = config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with without, pytest.raises(MissingDependency, match=r"torch_compile.*C\+\+"):
        get_runtime("torch_compile")


def test_torch_compile_compiles_any_number_of_layers() -> None:
    """Not so with one code object: torch runs eager, or here fails, beyond its limit for a code object."""
    adapter = installed("torch_compile")
    with torch._dynamo.config.patch(recompile_limit=1), adapter.threads(1):
        runs = [adapter.prepare(nn.ReLU(), torch.full((1, size), -1.0), 1) for size in (2, 3, 4)]
        assert [array(run()).shape for run in runs] == [(1, 2), (1, 3), (1, 4)]


# --- onnxruntime ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_networks_are_the_same_in_onnxruntime(name: str) -> None:
    network = lively(build(zoo.get(name, width=0.5, resolution=40), num_classes=7))
    expect_equal("onnxruntime", network, torch.randn(1, 3, 40, 40))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_blocks_are_the_same_in_onnxruntime(layer: Layer) -> None:
    size = () if layer.operator == "linear" else sides(layer.size)
    expect_equal("onnxruntime", lively(module_of(layer)), 3 * torch.randn(2, layer.in_channels, *size))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell how much memory is in use")
def test_onnxruntime_keeps_no_memory_from_preparing() -> None:
    """What runs next gets other memory: where a large layer's images lie changes what it takes."""

    def in_use_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    module = timed_module(Layer("conv", 2048, 3, 16, 3), in_frame=True)
    x = torch.rand(1, 3, 2048, 2048)
    get_runtime("onnxruntime").prepare(module, x, 1)
    before = in_use_mb()
    run = get_runtime("onnxruntime").prepare(module, x, 1)
    prepared = in_use_mb()
    run()
    assert in_use_mb() - prepared > 200, "what the convolution makes has 268 MB, and an arena keeps them"
    assert prepared - before < 100


def test_other_modules_have_no_onnx_form() -> None:
    with pytest.raises(BadInput, match="GRU"):
        get_runtime("onnxruntime").prepare(nn.GRU(2, 2), torch.rand(1, 2), 1)


def test_a_session_has_the_threads_and_keeps_silent(capfd: pytest.CaptureFixture[str]) -> None:
    from mnas.latency.runtimes import onnxruntime as adapter

    module, x = nn.Linear(4, 3), torch.rand(1, 4)
    options = adapter._session(onnx_model(module, x).SerializeToString(), 2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    adapter.prepare(module, x, 1)()
    assert capfd.readouterr() == ("", "")


@pytest.mark.alone
def test_a_session_that_has_run_leaves_the_cores_alone() -> None:
    network = build(zoo.get("mobilenet_v3_small", 0.35, 32), 10).eval()
    run, spent_s = get_runtime("onnxruntime").prepare(network, torch.rand(1, 3, 32, 32), 2), 0.0
    for _ in range(6):
        run()
        before = time.process_time()
        time.sleep(0.05)
        spent_s += time.process_time() - before
    assert spent_s < 0.015


def test_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    adapter, network = get_runtime("onnxruntime"), lively(build(zoo.get("mnasnet_small", 0.5, 32), 5))
    x, path = torch.rand(1, 3, 32, 32), tmp_path / "model.onnx"
    path.write_bytes(onnx_model(network, x).SerializeToString())
    np.testing.assert_array_equal(
        np.asarray(adapter.prepare_file(path, x, 1)()), np.asarray(adapter.prepare(network, x, 1)())
    )
    with pytest.raises(BadInput, match=r"model\.onnx: .*onnxruntime"):
        adapter.prepare_file(path, torch.rand(1, 3, 31, 31), 1)
    path.write_bytes(path.read_bytes()[:1000])
    for broken in (path, tmp_path / "absent.onnx"):
        with pytest.raises(BadInput, match=f"{broken.name}: .*onnxruntime"):
            adapter.prepare_file(broken, x, 1)
    assert capfd.readouterr() == ("", "")
