"""The feature maps' sizes in model.onnx: right for any image, and what onnxruntime needs to fuse shortcuts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from handmade import HAND_MADE, usual_network
from onnx import helper

from mnas.export.onnx_graph import network_model
from mnas.nn.network import Network, build
from mnas.space import zoo

FREE = ("batch", 3, "height", "width")


def operators(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that onnxruntime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.fixture(params=["mobilenet_v3_small", "mobilenet_v2", "pool_skips"])
def network(request: pytest.FixtureRequest) -> Network:
    if request.param in HAND_MADE:
        return usual_network(HAND_MADE[request.param], 10).eval()
    return build(zoo.load_architecture(request.param), 10).eval()


def test_they_are_those_of_any_image(network: Network) -> None:
    model = network_model(network, FREE)
    stated = list(model.graph.value_info)
    assert stated
    model.graph.output.extend(helper.make_empty_tensor_value_info(value.name) for value in stated)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sides = {"height": 75, "width": 40}
    names = [value.name for value in stated]
    made = session.run(names, {"images": np.zeros((2, 3, *sides.values()), np.float32)})
    for value, array in zip(stated, made, strict=True):
        batch, channels, *rest = value.type.tensor_type.shape.dim
        parts = [one.dim_param.partition("/") for one in rest]
        wanted = [-(-sides[name] // int(scale or 1)) for name, _, scale in parts]
        assert (batch.dim_param, channels.dim_value, *wanted) == ("batch", *array.shape[1:])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v2", "mnasnet_a1"])
def test_shortcuts_are_fused_as_at_a_fixed_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(zoo.load_architecture(name), 10).eval()
    free, fixed = (operators(network_model(network, shape), tmp_path) for shape in (FREE, (1, 3, 64, 64)))
    assert free["Add"] == fixed["Add"] == 0 and free["Conv"] == fixed["Conv"]
    assert free["Reshape"] == fixed["Reshape"]
