"""Networks with a head for segmentation or detection, and their parts, give in each runtime what PyTorch gives."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

from mnas.errors import BadInput
from mnas.latency.runtimes import check_runs, get_runtime
from mnas.latency.timing.frame import frame, input_shape, timed_module
from mnas.nn.dense import network_for
from mnas.space import zoo
from mnas.space.dense import DenseHead

ARCH = zoo.get("mobilenet_v3_small", width=0.35, resolution=(64, 80))


def first(outputs: Any) -> Any:
    return np.asarray(outputs[0] if isinstance(outputs, tuple | list) else outputs)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "openvino", "opencv"])
@pytest.mark.parametrize("head", ["lraspp", "deeplabv3", "ssdlite"])
def test_runtimes_compute_what_pytorch_does(runtime: str, head: Any) -> None:
    outputs = DenseHead(head, 5)
    if (runtime, head) == ("opencv", "deeplabv3"):
        with pytest.raises(BadInput, match="deeplabv3"):
            check_runs(runtime, outputs)
        return
    if runtime == "openvino" and not os.environ.get("MNAS_TEST_ALL_RUNTIMES"):
        pytest.importorskip("openvino")
    adapter = get_runtime(runtime)
    torch.manual_seed(0)
    layers = ARCH.layers(outputs)
    cases = [(network_for(ARCH, outputs), ARCH.input_shape(1))]
    for layer in (layers[-1], layers[-3], *([frame(layers[-1])] if adapter.framed else [])):
        shape = input_shape(layer, 1, in_frame=adapter.framed)
        cases.append((timed_module(layer, in_frame=adapter.framed), shape))
    for module, shape in cases:
        x = torch.rand(shape)
        with torch.inference_mode(), adapter.threads(1):
            wanted, found = first(module(x)), first(adapter.prepare(module, x, 1)())
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
