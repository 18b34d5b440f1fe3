#!/bin/sh
# nncf 3.4.0 with OpenVINO 2026.4.1, CPU, a model read from ONNX: after nncf.quantize, a depthwise convolution has a FakeQuantize on
# its input and on its weights like all others, and the file says nothing else; the compiled model computes it in float32
# beside int8 for the ordinary and pointwise convolutions, whose weights have become int8 constants, with the preset MIXED as with
# PERFORMANCE. In MobileNetV3-Large these are all 15 depthwise layers. mnas counts float operators from the compiled model.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nncf==3.4.0 openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cat > "$folder/depthwise.py" <<'PY'
import numpy as np
import nncf
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
shapes = {"expand": (32, 16, 1, 1), "depthwise": (32, 1, 3, 3), "project": (16, 32, 1, 1)}
weights = [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), f"{name}_w") for name, shape in shapes.items()]
nodes = [
    helper.make_node("Conv", ["x", "expand_w"], ["a"], "expand", kernel_shape=[1, 1]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Conv", ["b", "depthwise_w"], ["c"], "depthwise", kernel_shape=[3, 3], pads=[1] * 4, group=32),
    helper.make_node("Relu", ["c"], ["d"]),
    helper.make_node("Conv", ["d", "project_w"], ["y"], "project", kernel_shape=[1, 1]),
]
value = helper.make_tensor_value_info
graph = helper.make_graph(
    nodes, "block", [value("x", TensorProto.FLOAT, [1, 16, 28, 28])], [value("y", TensorProto.FLOAT, [1, 16, 28, 28])], weights
)
onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
core = ov.Core()
model = core.read_model(onnx_model.SerializeToString())
images = [rng.normal(size=(1, 16, 28, 28)).astype(np.float32) for _ in range(16)]
seen = {}
for preset in (nncf.QuantizationPreset.MIXED, nncf.QuantizationPreset.PERFORMANCE):
    quantised = nncf.quantize(model.clone(), nncf.Dataset(images), preset=preset)
    compiled = core.compile_model(quantised, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if str(info["layerType"].astype(str)) == "Convolution":
            kinds[node.get_friendly_name().partition("/")[0]] = str(info["runtimePrecision"].astype(str))
    seen[preset.name] = kinds
print(seen)
for kinds in seen.values():
    values = list(kinds.values())
    assert values.count("f32") == 1 and len(values) == 3, "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/depthwise.py" 2>/dev/null | tail -1
