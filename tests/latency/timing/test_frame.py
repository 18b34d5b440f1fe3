"""A layer in a frame runs as it does within a network."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from mnas.export.onnx_graph import onnx_model
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.nn.network import build
from mnas.space import zoo
from mnas.space.architecture import Architecture
from mnas.space.layer import Layer

NAMES = ["mobilenet_v3_small", "mobilenet_v3_large", "mnasnet_a1"]
NETWORKS = [zoo.get(name, 1.0, 64) for name in NAMES]
LAYERS = list(dict.fromkeys(layer for arch in NETWORKS for layer in arch.layers(10)))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_layer_gets_the_input_that_it_would_have(batch: int) -> None:
    assert {layer.operator for layer in LAYERS} == {"conv", "sepconv", "mbconv", "pool", "linear"}
    for layer in LAYERS:
        own = input_shape(layer, batch, in_frame=False)
        timed_module(layer, in_frame=False)(torch.rand(own))
        x = torch.rand(input_shape(layer, batch, in_frame=True))
        module = timed_module(layer, in_frame=True)
        assert isinstance(module, nn.Sequential)
        assert not module.training
        if layer.takes_images:
            assert x.shape == own
        else:
            assert x.shape[1] == 1
            assert module[0](x).shape == own
        out = module(x)
        assert out.numel() == out.shape[0] * out.shape[1] == batch * layer.out_channels
        empty = timed_module(frame(layer), in_frame=True)
        empty(torch.rand(input_shape(frame(layer), batch, in_frame=True)))


def test_few_frames_serve_all_layers() -> None:
    layers = zoo.get("mobilenet_v3_large", 1.0, 224).layers()
    assert len({frame(layer) for layer in layers}) < len(set(layers))
    assert not {frame(layer) for layer in layers} & set(layers)


def operators(module: nn.Module, shape: tuple[int, ...], folder: Path) -> Counter[str]:
    """Those of a model that ONNX Runtime has optimised, with the number of their inputs: a fused shortcut is one."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    content = onnx_model(module, torch.rand(shape)).SerializeToString()
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return Counter(f"{node.op_type} of {sum(map(bool, node.input))}" for node in nodes)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no blocks of channels here")
@pytest.mark.parametrize("arch", NETWORKS, ids=NAMES)
def test_layers_beyond_their_frames_run_the_operators_of_the_network(arch: Architecture, tmp_path: Path) -> None:
    """Alone, layers have shortcuts that are not fused, and images that are brought into another layout and back."""
    network = operators(build(arch, 10).eval(), (1, 3, 64, 64), tmp_path)

    def of(layer: Layer, in_frame: bool) -> Counter[str]:
        return operators(timed_module(layer, in_frame=in_frame), input_shape(layer, 1, in_frame=in_frame), tmp_path)

    def differ(total: Counter[str]) -> int:
        return sum(abs(total[name] - network[name]) for name in total.keys() | network.keys())

    alone, beyond = Counter[str](), Counter[str]()
    for layer in arch.layers(10):
        alone.update(of(layer, False))
        beyond.update(of(layer, True))
        beyond.subtract(of(frame(layer), True))
    assert 4 * differ(beyond) < differ(alone)
