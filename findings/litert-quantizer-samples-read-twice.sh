#!/bin/sh
# litert-quantizer 0.11.0: Quantizer.calibrate, whose calibration data is declared as an Iterable of samples for each signature,
# goes through it twice: once to count, once to calibrate. A generator is empty the second time; calibrate then returns no
# statistics and no error, and quantize ends with "Model quantization statistics values (QSVs) are required for the input recipe",
# which sounds as if calibrate had never been called. The same samples in a list work. mnas gives a list.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check litert-quantizer==0.11.0 ai-edge-litert==2.3.0 numpy==2.4.6 flatbuffers==25.12.19
cat > "$folder/twice.py" <<'PY'
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from litert_quantizer import quantizer, recipe

# y = x @ w + b, with a signature
weight, bias = np.eye(4, dtype=np.float32), np.ones(4, np.float32)


def constant(array):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    return buffer


FLOAT = schema.TensorType.FLOAT32
tensors = [
    schema.TensorT([1, 4], FLOAT, 0, "x"), schema.TensorT([4, 4], FLOAT, 1, "w"),
    schema.TensorT([4], FLOAT, 2, "b"), schema.TensorT([1, 4], FLOAT, 0, "y"),
]
code = schema.BuiltinOperator.FULLY_CONNECTED
operator = schema.OperatorT(0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT())
model = schema.ModelT(
    3, [schema.OperatorCodeT(code, version=1, builtinCode=code)], [schema.SubGraphT(tensors, [0], [3], [operator], "main")],
    "one layer", [schema.BufferT(), constant(weight), constant(bias)],
    signatureDefs=[schema.SignatureDefT([schema.TensorMapT("x", 0)], [schema.TensorMapT("y", 3)], "serving_default", 0)],
)
builder = flatbuffers.Builder(1024)
builder.Finish(model.Pack(builder), b"TFL3")
content = bytes(builder.Output())


def quantised(samples):
    one = quantizer.Quantizer(content, recipe.static_wi8_ai8())
    statistics = one.calibrate({None: samples})
    try:
        return len(one.quantize(statistics).quantized_model) > 0
    except RuntimeError as error:
        return f"{len(statistics)} statistics, then {error}"


samples = [{"x": np.random.default_rng(i).normal(size=(1, 4)).astype(np.float32)} for i in range(4)]
seen = {"list": quantised(samples), "generator": quantised(one for one in samples)}
print(seen)
assert seen["list"] is True and "0 statistics" in str(seen["generator"]), "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/twice.py" 2>/dev/null
