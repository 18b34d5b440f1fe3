"""What surprises in these formats, each row of docs/formats.md: the right value where mnas works around it."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_models import installed, model_of

from mnas.export.formats import Model, QuantisingFormat, file_name, quantising
from mnas.export.quantize.sensitivity import quantisable_layers


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of("inverted_residuals")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def int8(name: str) -> QuantisingFormat:
    form = quantising(installed(name))
    assert form is not None
    return form


def test_onnxruntime_computes_every_convolution_and_pool_in_int8(
    model: Model, images: torch.Tensor, tmp_path: Path
) -> None:
    form, path = int8("onnx"), tmp_path / file_name("onnx", "int8")
    before = list(logging.root.handlers)
    form.quantise(model, images, (), path)
    assert logging.root.handlers == before
    in_float = form.operators(path)
    assert set(in_float) == {"HardSigmoid", "Mul"}
    activations = sum(isinstance(part, torch.nn.Hardswish) for part in model.network.modules())
    assert in_float == {"HardSigmoid": activations, "Mul": activations}
    types = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert types["Conv"] + types["Gemm"] == len(quantisable_layers(model.network))
    assert types["ReduceMean"] == 0
    assert types["GlobalAveragePool"] == 4  # of three squeeze-and-excitations and the head


def test_litert_runs_an_int8_network_as_one_delegate(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    form, path = int8("litert"), tmp_path / "model_int8.tflite"
    form.quantise(model, images, (), path)
    assert set(form.operators(path)) == {"HARD_SWISH"}
    from mnas.latency.runtimes.litert_interpreter import interpreter

    opened = interpreter(path.read_bytes(), 1)
    (delegate,) = [op for op in opened._get_ops_details() if op["op_name"] == "DELEGATE"]
    assert opened.get_input_details()[0]["index"] in delegate["inputs"]
    assert opened.get_output_details()[0]["index"] in delegate["outputs"]


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_the_order_of_the_images_decides_nothing(
    name: str, model: Model, images: torch.Tensor, tmp_path: Path
) -> None:
    form, suffix = int8(name), Path(file_name(name, "int8")).suffix
    rising = images[images.flatten(1).amax(1).argsort()]
    for path, ordered in (("one", rising), ("other", rising.flip(0))):
        form.quantise(model, ordered, (), tmp_path / f"{path}{suffix}")
    from mnas.latency.runtimes import get_runtime

    runtime = get_runtime(str(form.RUNTIME))
    one, other = (runtime.open_file(tmp_path / f"{path}{suffix}", images[:1], 1) for path in ("one", "other"))
    np.testing.assert_array_equal(one(images[:1]), other(images[:1]))


def test_executorch_leaves_hard_swish_alone_in_float(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    form, path = int8("executorch"), tmp_path / "model_int8.pte"
    form.quantise(model, images, (), path)
    assert set(form.operators(path)) <= {"Hardswish", "dim_order_ops::_to_dim_order_copy"}


def test_nncf_changes_nothing_in_this_process(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    form, logger = int8("openvino"), logging.getLoggerClass()
    method = multiprocessing.get_start_method(allow_none=True)
    form.quantise(model, images, (), tmp_path / "model_int8.xml")
    assert multiprocessing.get_start_method(allow_none=True) == method
    assert logging.getLoggerClass() is logger
    assert "Convolution" in form.operators(tmp_path / "model_int8.xml"), "depthwise ones"


def test_openvino_files_keep_float32_weights(model: Model, tmp_path: Path) -> None:
    form = installed("openvino")
    form.write(model, tmp_path / "model.xml")
    weights = sum(parameter.numel() for layer in quantisable_layers(model.network).values()
                  for parameter in [layer.weight])  # fmt: skip
    assert (tmp_path / "model.bin").stat().st_size > 4 * weights


def test_a_bias_beyond_32_bits_keeps_its_layer_in_float(images: torch.Tensor, tmp_path: Path) -> None:
    """A channel of tiny weights with a usual bias, as of a dead filter: the quantizer would let the bias overflow."""
    form, model, path = int8("litert"), model_of("inverted_residuals"), tmp_path / "model_int8.tflite"
    layer = model.network.get_submodule("classifier")
    with torch.no_grad():
        layer.get_parameter("weight")[0] *= 1e-9
        layer.get_parameter("bias")[0] = 2.0
        expected = model.network(images[:1]).numpy()
    form.quantise(model, images, (), path)
    assert "FULLY_CONNECTED" in form.operators(path)
    from mnas.latency.runtimes import get_runtime

    said = get_runtime("litert").open_file(path, images[:1], 1)(images[:1])
    np.testing.assert_allclose(said[0, 0], expected[0, 0], atol=0.05)


def test_dead_parts_keep_their_scales_within_what_xnnpack_takes(images: torch.Tensor, tmp_path: Path) -> None:
    """A gate that never sees anything, and a branch whose last scale is zero, as those that start as a shortcut."""
    form, model, path = int8("litert"), model_of("inverted_residuals"), tmp_path / "model_int8.tflite"
    with torch.no_grad():
        for name, part in model.network.named_modules():
            if name.endswith("se.conv_reduce"):
                part.get_parameter("bias").fill_(-1000)
            if name == "blocks.2.bn3":
                part.get_parameter("weight").zero_()
                part.get_parameter("bias").zero_()
    form.quantise(model, images, (), path)
    from mnas.export.quantize.ranges import LEAST
    from mnas.export.tflite_graph import schema

    content = path.read_bytes()
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0)).subgraphs[0]
    scales = {
        tensor.name.decode(): float(tensor.quantization.scale[0]) for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT8 and len(tensor.quantization.scale) == 1
    }  # fmt: skip
    assert scales["blocks.0.se.conv_reduce"] >= 0.99 * LEAST / 255
    assert scales["blocks.2.conv_pwl"] >= 0.99 * LEAST / 255
    from mnas.latency.runtimes import get_runtime

    run = get_runtime("litert").open_file(path, images[:1], 1)
    with torch.inference_mode():
        expected = model.network(images[:1]).numpy()
    np.testing.assert_allclose(run(images[:1]), expected, atol=0.2 * float(np.abs(expected).max()))
