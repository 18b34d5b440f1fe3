#!/bin/sh
# onnxruntime 1.31.1 (CPU): in a network with squeeze-and-excitation whose height and width are free, the shortcut's Add is
# not fused into the convolution before it, as it is where the input's sizes are numbers: the Add stays, with three
# Reshapes. It is fused where value_info, which the format leaves optional, gives the maps that are added equal
# names for equal sizes ("height/2"). Of the product of a map (b, c, h, w) with its gate (b, c, 1, 1) shape inference keeps
# no relation to the map's free sizes, and the fusion asks for equal ones; without a gate the Add is fused in any case.
# MobileNetV3-Large of free size: 5 of 10 Adds, those of the layers with a gate, and 15 Reshapes stay without, none with.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1
cat > "$folder/fuse.py" <<'PY'
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
FREE, FIXED = ["batch", 16, "height", "width"], [1, 16, 32, 32]


def convolution(name, x, stride):
    weight = rng.normal(size=(16, 16, 3, 3)).astype(np.float32) / 12
    node = helper.make_node("Conv", [x, f"{name}.weight"], [name], pads=[1] * 4, strides=[stride] * 2)
    return node, numpy_helper.from_array(weight, f"{name}.weight")


first, second = convolution("first", "images", 2), convolution("second", "first", 1)
gated = convolution("second", "product", 1)
add = helper.make_node("Add", ["second", "first"], ["sum"])
last = convolution("last", "sum", 1)
gate = [
    helper.make_node("GlobalAveragePool", ["first"], ["mean"]), helper.make_node("Sigmoid", ["mean"], ["gate"]),
    helper.make_node("Mul", ["first", "gate"], ["product"]),
]


def model(shape, stated=(), gates=True):
    value = helper.make_tensor_value_info
    inner = [*gate, gated[0]] if gates else [second[0]]
    graph = helper.make_graph(
        [first[0], *inner, add, last[0]], "shortcut", [value("images", TensorProto.FLOAT, shape)],
        [value("last", TensorProto.FLOAT, ["batch", 16, None, None])], [first[1], (gated if gates else second)[1], last[1]],
        value_info=[value(name, TensorProto.FLOAT, ["batch", 16, "height/2", "width/2"]) for name in stated],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def optimised(made):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = sys.argv[1]
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).random((1, 16, 32, 32), np.float32)
    operators = Counter(node.op_type for node in onnx.load(sys.argv[1]).graph.node)
    return operators, session.run(None, {"images": images})[0]


plain, logits = optimised(model(FREE))
named, same = optimised(model(FREE, ("first", "second")))
fixed, _ = optimised(model(FIXED))
without, _ = optimised(model(FREE, gates=False))
for title, operators in (
    ("free sizes", plain), ("free sizes, named within", named), ("fixed sizes", fixed), ("free, no gate", without),
):
    print(f"{title}: {dict(sorted(operators.items()))}")
assert np.allclose(logits, same, atol=1e-4)
assert plain["Add"] == 1 and named["Add"] == fixed["Add"] == without["Add"] == 0
PY
"$folder/venv/bin/python" "$folder/fuse.py" "$folder/optimised.onnx"
