#!/bin/sh
# onnx 1.23.2, onnx.version_converter: a model with a Pad node cannot be converted from opset 18 to 17 or below:
#   RuntimeError: ... No Adapter To Version $17 for Pad
# Opset 18 only added an optional input (axes) to Pad, which such a model need not use: with the number of the opset
# changed by hand it is valid in 17, 13 and 11, and onnxruntime 1.31.1 computes the same. ReduceMean, whose axes became
# an input in the same opset, is converted to 17 and 13, but not to 11 (No Adapter From Version $13 for ReduceMean).
# torch.onnx.export(dynamo=True) writes opset 18, so that networks with pooled and padded shortcuts do not reach readers
# of older opsets through the converter.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter


def model_of(node, shape, *weights):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "g", [x], [y], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)})[0]


pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64), "pads")
axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
pad = model_of(helper.make_node("Pad", ["x", "pads"], ["y"], mode="constant"), [1, 2, 4, 5], pads)
mean = model_of(helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1), [1, 2, 1, 1], axes)
refused = {}
for name, model in (("Pad", pad), ("ReduceMean", mean)):
    onnx.checker.check_model(model, full_check=True)
    for opset in (17, 13, 11):
        try:
            version_converter.convert_version(model, opset)
        except RuntimeError as error:
            refused[name, opset] = str(error).rpartition("failed: ")[2]
            print(f"{name}, 18 to {opset}: {refused[name, opset]}")
        else:
            print(f"{name}, 18 to {opset}: converted")
expected = run(pad)
for opset, ir_version in ((17, 8), (13, 7), (11, 6)):
    pad.opset_import[0].version, pad.ir_version = opset, ir_version
    onnx.checker.check_model(pad, full_check=True)
    np.testing.assert_array_equal(run(pad), expected)
    print(f"Pad, called opset {opset}: valid, the same output")
if sorted(refused) != [("Pad", 11), ("Pad", 13), ("Pad", 17), ("ReduceMean", 11)]:
    sys.exit("this has changed: Pad could not be converted below opset 18, nor ReduceMean to 11")
PY
