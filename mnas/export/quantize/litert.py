"""int8 for LiteRT, by its own quantizer, so that XNNPACK takes the whole network."""

from __future__ import annotations

import importlib
import re
import warnings
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnas.errors import MissingDependency
from mnas.io.silence import silence

try:
    quantizers: Any = importlib.import_module("litert_quantizer.quantizer")
    calibrators: Any = importlib.import_module("litert_quantizer.calibrator")
    qsv: Any = importlib.import_module("litert_quantizer.utils.qsv_utils")
    recipes: Any = importlib.import_module("litert_quantizer.recipe_manager")
    from mnas.export.quantize.ranges import beyond_32_bits, widened
    from mnas.export.tflite_graph import nhwc, parsed, schema, tflite_model
except ImportError as error:
    raise MissingDependency(
        f"litert_int8, and int8 files for LiteRT, need a package ({error}): pip install litert-quantizer flatbuffers"
    ) from None

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MEAN", "AVERAGE_POOL_2D", "PAD", "SLICE")
"""What computes in int8. HARD_SWISH does not: XNNPACK has no int8 form of it (LiteRT 2.3: 39 times slower)."""
UNQUANTISED = "no_quantize"
LAST = "classifier"
"""The layer whose output is the model's, and called so."""


def quantised_tflite(module: nn.Module, images: Tensor, kept: Collection[str] = ()) -> bytes:
    """The content of a .tflite file in int8 with float32 input and output, for one image (1, h, w, c).

    Ranges are those of normalised `images` (n, c, h, w); of a layer, of its inputs. The layers named in `kept` stay in
    float32.
    """
    content = tflite_model(module, images[:1])
    outputs = ["output" if name == LAST else name for name in kept]  # an operator is known by its output
    with silence(), warnings.catch_warnings():  # it draws bars of progress
        # its own way of calibrating
        warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
        # by default ranges are a moving average, and the last images decide them
        calibrator = calibrators.Calibrator(content, torch.get_num_threads(), qsv_update_func=qsv.min_max_update)
        calibrator.calibrate({None: _samples(images)}, _recipe(()))
        exact = parsed(content)
        ranges = widened(calibrator.get_model_qsvs(), exact)
        recipe = _recipe([*outputs, *beyond_32_bits(ranges, exact)])
        quantizer = quantizers.Quantizer(content, recipe.get_quantization_recipe())
        result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _recipe(outputs: Collection[str]) -> Any:
    """int8 for all operators but those with these outputs."""
    recipe = recipes.RecipeManager()
    for operator in OPERATORS:
        recipe.add_static_config(".*", operator, activation_num_bits=8, weight_num_bits=8)
    for output in outputs:
        recipe.add_quantization_config(f"^{re.escape(output)};?$", "*", algorithm_key=UNQUANTISED)
    return recipe


def _samples(images: Tensor) -> list[dict[str, Any]]:
    """A list, since the calibrator goes through them twice."""
    return [{"input": np.ascontiguousarray(nhwc(image[None]).numpy())} for image in images]


def float_operators(content: bytes) -> dict[str, int]:
    """Of each operator that computes in float32: its name and how often the file has it."""
    model = parsed(content)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    graph, counts = model.subgraphs[0], Counter[str]()
    for operator in graph.operators:
        if all(graph.tensors[i].type == schema.TensorType.FLOAT32 for i in (operator.inputs[0], operator.outputs[0])):
            code = model.operatorCodes[operator.opcodeIndex]
            counts[names[max(code.builtinCode, code.deprecatedBuiltinCode)]] += 1
    return dict(counts)
