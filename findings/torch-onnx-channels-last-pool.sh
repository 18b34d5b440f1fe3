#!/bin/sh
# torch 2.13.0 with onnxscript 0.7.2, torch.onnx.export(dynamo=True) with a free batch: of a network that was put into
# channels_last, as is usual for training convolutions, AdaptiveAvgPool2d(1) is not written as ReduceMean alone, as it is
# of the same network in the default layout. Ten more nodes (Shape, Squeeze, Range, Mul, Unsqueeze, three Adds, Gather,
# Reshape) compute indices and gather the same values in the same order: torch.export keeps the mean's strides as an
# as_strided. onnxruntime 1.31.1 computes the same logits, but a reader for convolutional networks meets
# operators that the network does not have. A copy of the network in the default layout (copy.deepcopy(net).to(
# memory_format=torch.contiguous_format)) is exported without them. For a fixed batch a Gather is left.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
cat > "$folder/export.py" <<'PY'
import logging
import sys
import warnings

import onnxruntime
import torch
from torch import nn

warnings.simplefilter("ignore")
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
).eval()
images = torch.rand(2, 3, 32, 32)
operators = {}
for layout in (torch.contiguous_format, torch.channels_last):
    network.to(memory_format=layout)
    program = torch.onnx.export(
        network, (images,), dynamo=True, verbose=False, external_data=False, dynamic_shapes=({0: "batch"},)
    )
    model = program.model_proto
    operators[layout] = [node.op_type for node in model.graph.node]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    more = torch.rand(8, 3, 32, 32)
    own = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: more.numpy()})[0])
    print(f"{layout}: {' '.join(operators[layout])}")
    if not torch.allclose(own, network(more), atol=1e-5):
        sys.exit("this has changed: onnxruntime computed the same logits")
plain = ["Conv", "Relu", "ReduceMean", "Reshape", "Gemm"]
if operators[torch.contiguous_format] != plain:
    sys.exit("this has changed: in the default layout there were five nodes")
if operators[torch.channels_last] == plain or "Gather" not in operators[torch.channels_last]:
    sys.exit("this has changed: in channels_last the pool was followed by a Gather of computed indices")
PY
"$folder/venv/bin/python" "$folder/export.py" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
