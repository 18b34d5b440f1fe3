"""Tables and measurements of networks for segmentation and detection, as a user types them, and their parts."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Mnas
from made_up_tables import FIT, made_up, refitted

import mnas as package
from mnas.errors import BadInput
from mnas.latency.conditions import Conditions
from mnas.latency.measure import measure_networks
from mnas.latency.table import calibrate as calibrating
from mnas.latency.table.anchors import Anchor
from mnas.latency.table.cache import cache_path
from mnas.latency.table.table import LatencyTable
from mnas.latency.timing.frame import input_shape, timed_module
from mnas.latency.timing.rounds import RoundLimits
from mnas.nn.dense import network_for
from mnas.space import zoo
from mnas.space.cost import layer_madds
from mnas.space.dense import DenseHead

HEADS: list[Any] = ["lraspp", "deeplabv3", "ssdlite"]
ARCH = zoo.get("mobilenet_v3_small", width=0.35, resolution=(64, 80))
SPACE = """
name: dense
reference: mobilenet_v3_small
resolution: 64
stem: {channels: 8, kernel: 3, stride: 2, activation: relu}
stages:
  - {channels: 8, stride: 2, depth: 1, kernel: 3, activation: relu}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: 3, expansion: 2, activation: relu}
  - {channels: 24, stride: 2, depth: 1, kernel: 3, expansion: 2, activation: relu}
  - {channels: 32, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: 2, activation: relu}
head: {channels: 48, hidden: 64, activation: relu}
"""


def first(outputs: Any) -> Any:
    return np.asarray(outputs[0] if isinstance(outputs, tuple | list) else outputs)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_alone_reads_the_maps_of_the_backbone(head: Any, batch: int) -> None:
    layer = ARCH.layers(DenseHead(head, 5))[-1]
    whole = network_for(ARCH, DenseHead(head, 5))
    with torch.inference_mode():
        wanted = [tuple(one.shape) for one in whole.get_submodule("maps")(torch.rand(ARCH.input_shape(batch)))]
        for in_frame in (False, True):
            alone = timed_module(layer, batch, in_frame=in_frame)
            x = torch.rand(input_shape(layer, batch, in_frame=in_frame))
            assert [tuple(one.shape) for one in alone.get_submodule("maps")(x)] == wanted
            assert alone.get_submodule("head").state_dict().keys() == whole.get_submodule("head").state_dict().keys()
            assert first(alone(x)).shape == first(whole(torch.rand(ARCH.input_shape(batch)))).shape
    assert not timed_module(layer, batch, in_frame=True).training


def test_a_table_of_a_head(tmp_path: Path) -> None:
    space, outputs = package.load_space("v3_small").with_resolutions((64,)), DenseHead("lraspp", 5)
    archs = [space.sample(random.Random(seed)) for seed in range(4)]
    layers = dict.fromkeys(layer for arch in archs for layer in arch.layers(outputs))
    fit = replace(refitted(FIT, space="v3_small under lraspp at output stride 16"), anchors=(
        Anchor(archs[0], outputs, 1.5), Anchor(archs[1], 10, 2.5),
    ))  # fmt: skip
    table = made_up({layer: 0.1 + layer_madds(layer) / 1e7 for layer in layers}, calibration=fit)
    wanted = [sum(table.entries[layer] for layer in arch.layers(outputs)) for arch in archs]
    np.testing.assert_allclose(table.predict_many(archs, outputs), wanted)
    assert table.predict(archs[2], outputs) == pytest.approx(wanted[2])
    table.save(tmp_path / "table.yaml")
    read = LatencyTable.load(tmp_path / "table.yaml")
    assert read == table
    assert (read.heads(), read.classes()) == ([outputs], [])
    assert fit.is_of(space, outputs) is False, "of other sizes"
    for other in (10, DenseHead("lraspp", 7), DenseHead("lraspp", 5, 8)):
        with pytest.raises(BadInput, match="lacks"):
            table.predict(archs[0], other)


def test_tables_for_heads_have_files_of_their_own() -> None:
    space = package.load_space("v3_small")
    outputs = [1000, 10, DenseHead("lraspp"), DenseHead("lraspp", 5), DenseHead("lraspp", 5, 8), DenseHead("ssdlite")]
    paths = [cache_path(space, Conditions("torch"), outputs=one) for one in outputs]
    assert paths[0] == paths[1] == cache_path(space, Conditions("torch"))
    assert paths[2] == paths[3]
    assert len(set(paths)) == 4


def test_whole_networks_with_and_without_heads_in_the_same_rounds() -> None:
    arch = replace(ARCH, resolution=64)
    outputs = [10, DenseHead("lraspp", 5), DenseHead("ssdlite", 5)]
    found = measure_networks(
        [arch] * 3, Conditions("torch"), RoundLimits(2), num_classes=outputs, anchors=(), rng=random.Random(0)
    )
    assert all(one.median_ms > 0 for one in found)
    with pytest.raises(BadInput, match="litert"):
        measure_networks([arch], Conditions("litert"), num_classes=outputs[1], rng=random.Random(0))


# --- the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def latency(mnas: Mnas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mnas:
    """Run `mnas latency ...` beside dense.yaml, with a cache of its own, and few networks to calibrate with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {"FITTED": 3, "HELD_OUT": 3, "ROUNDS": 4}.items():
        monkeypatch.setattr(calibrating, name, value)
    (tmp_path / "dense.yaml").write_text(SPACE)
    return functools.partial(mnas, "latency")


def test_build_predict_and_check(latency: Mnas) -> None:
    build = ("build", "--space", "dense.yaml", "--head", "lraspp", "--classes", "5", "-o", "table.yaml", "--json")
    built = latency(*build).json
    space = package.load_space("dense.yaml")
    assert (built["space"], built["failed"]) == ("dense under lraspp at output stride 16", 0)
    assert built["layers"] == len(space.layers(DenseHead("lraspp", 5)))
    assert 0 < built["fastest_ms"] <= built["slowest_ms"] < 1000
    Path("own.yaml").write_text(space.sample(random.Random(0)).to_yaml())
    predicted = latency("predict", "table.yaml", "own.yaml", "--json").json
    assert (predicted["head"], predicted["classes"]) == ("lraspp at output stride 16", 5)
    (network,) = predicted["networks"]
    assert (network["name"], network["resolution"]) == ("own.yaml", 64)
    rounding = 1 + 1e-9
    assert built["fastest_ms"] <= network["latency_ms"] * rounding <= built["slowest_ms"] * rounding**2
    assert "own.yaml" in latency("predict", "table.yaml", "own.yaml").out
    lacking = latency("predict", "table.yaml", "mobilenet_v3_small", "--classes", "7")
    assert (lacking.code, lacking.err.count("\n")) == (2, 1)
    assert "--head lraspp --output-stride 16 --classes 7" in lacking.err
    found = latency("check", "table.yaml", "--space", "dense.yaml", "--networks", "3", "--json").json
    assert (found["space"], found["classes"]) == (built["space"], 5)
    assert found["slower"] > 0, "the networks of the fit are measured again"


@pytest.mark.parametrize("head", HEADS)
def test_measure_under_a_head(latency: Mnas, head: str) -> None:
    how = ("measure", "mobilenet_v3_small@0.35", "--head", head, "--resolution", "64", "--rounds", "10", "--json")
    assert latency(*how).json["networks"][0]["latency_ms"] > 0


@pytest.mark.parametrize(("args", "message"), [
    (("measure", "mobilenet_v3_small", "--head", "lrasp"), "did you mean 'lraspp'?"),
    (("measure", "mobilenet_v3_small", "--output-stride", "8"), "--head"),
    (("measure", "mobilenet_v3_small", "--head", "ssdlite", "--output-stride", "8"), "expected 32"),
    (("measure", "mobilenet_v3_small", "--head", "lraspp", "--runtime", "litert"), "onnxruntime"),
    (("measure", "model.onnx", "--head", "lraspp", "--runtime", "onnxruntime"), "model.onnx"),
    (("build", "--space", "dense.yaml", "--head", "lraspp", "--runtime", "executorch"), "onnxruntime"),
])  # fmt: skip
def test_mistakes(latency: Mnas, args: tuple[str, ...], message: str) -> None:
    Path("model.onnx").write_bytes(b"")
    done = latency(*args)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
