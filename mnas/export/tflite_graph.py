"""A module of mnas's blocks as a TFLite model, written operator by operator: a layer in two milliseconds.

The operators are those that litert-torch's converter chooses, so that both files take the same time. Shortcuts with
pooling differ: the converter uses operators for them that XNNPACK does not support.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mnas.errors import BadInput
from mnas.nn import blocks
from mnas.nn.network import Network

flatbuffers: Any = importlib.import_module("flatbuffers")
schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")

ALIGNMENT = 16
"""Alignment of weights in the file, in bytes: required by the schema, not done by the generated code."""
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE, RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6
FUSED: dict[type[nn.Module] | type[None], int] = {
    nn.ReLU: schema.ActivationFunctionType.RELU, nn.ReLU6: RELU6, nn.Hardsigmoid: RELU6,
}  # fmt: skip
"""The activation that an operator applies to its output; for a hard sigmoid, relu6(x + 3) / 6, its relu6."""


def tflite_model(module: nn.Module, example: torch.Tensor) -> bytes:
    """`module` in eval mode as a float32 .tflite file with one input (shaped as `example`) and one output.

    Images lie in the file's layout (b, h, w, c), at the input and at the output too.
    Batch normalisation is folded into the convolution before it, as converters do. The outputs of convolutions and
    linear layers have the names that these have in `module`.
    """
    graph = _Graph(module)
    first = graph.tensor(nhwc(example).shape, name="input")
    with torch.no_grad():
        last = _emit(graph, module, first)
    return graph.packed(first, last)


def nhwc(images: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) to (b, h, w, c); other shapes unchanged."""
    return images.permute(0, 2, 3, 1) if images.dim() == 4 else images


class Buffer(schema.BufferT):  # type: ignore[misc]
    """The content of a constant tensor, aligned."""

    def Pack(self, builder: Any) -> int:
        builder.Prep(ALIGNMENT, len(self.data))
        return int(super().Pack(builder))


class _Graph:
    """The tensors, their constant contents and the operators of a model; tensors are referred to by index."""

    def __init__(self, module: nn.Module) -> None:
        self._names = {part: name for name, part in module.named_modules()}
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # the first stands for no content
        self.operators: list[Any] = []
        self.codes: list[int] = []

    def tensor(self, shape: tuple[int, ...], dtype: int = schema.TensorType.FLOAT32, buffer: int = 0,
               name: str = "") -> int:  # fmt: skip
        self.tensors.append(schema.TensorT(list(shape), dtype, buffer, name or f"t{len(self.tensors)}"))
        return len(self.tensors) - 1

    def constant(self, array: NDArray[Any]) -> int:
        dtype = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
        self.buffers.append(Buffer(np.frombuffer(array.tobytes(), np.uint8)))
        return self.tensor(array.shape, dtype, len(self.buffers) - 1)

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def operator(
        self, name: str, inputs: list[int], shape: tuple[int, ...], options: str = "", of: nn.Module | None = None,
        **values: Any,
    ) -> int:  # fmt: skip
        """Adds the operator called `name`, with options of the schema's type `options`; returns its output.

        The output gets the name of the module that the operator is `of`.
        """
        code = getattr(schema.BuiltinOperator, name)
        if code not in self.codes:
            self.codes.append(code)
        chosen = (getattr(schema.BuiltinOptions, options), getattr(schema, options + "T")(**values)) if options else ()
        out = self.tensor(shape, name="" if of is None else self._names[of])
        self.operators.append(schema.OperatorT(self.codes.index(code), inputs, [out], *chosen))
        return out

    def packed(self, first: int, last: int) -> bytes:
        """The file's content."""
        self.tensors[last].name = "output"
        codes = [schema.OperatorCodeT(code, version=1, builtinCode=code) for code in self.codes]
        graph = schema.SubGraphT(self.tensors, [first], [last], self.operators, "main")
        ends = [[schema.TensorMapT(self.tensors[end].name, end)] for end in (first, last)]
        signature = schema.SignatureDefT(*ends, "serving_default", 0)
        return packed(schema.ModelT(3, codes, [graph], "mnas", self.buffers, signatureDefs=[signature]))


def parsed(content: bytes) -> Any:
    """The model (schema.ModelT) of a .tflite file."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def packed(model: Any) -> bytes:
    """The content of the file of a model, whose constants are a `Buffer` each."""
    weights = sum(len(buffer.data) + ALIGNMENT for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(weights + 1024 * (1 + len(model.subgraphs[0].tensors)))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _emit(graph: _Graph, module: nn.Module, x: int) -> int:
    """Adds the operators of `module` applied to tensor `x`; returns its output."""
    match module:
        case Network():
            x = _emit(graph, module.conv_head, _emit(graph, module.blocks, _emit(graph, module.stem, x)))
            return _emit(graph, module.classifier, _emit(graph, module.hidden, _emit(graph, module.pool, x)))
        case nn.Sequential():
            for child in module:
                x = _emit(graph, child, x)
            return x
        case blocks.ConvBNAct():
            return _add_shortcut(graph, module.shortcut, x, _conv(graph, x, module.conv, module.bn1, module.act1))
        case blocks.SepConv():
            out = _emit(graph, module.se, _conv(graph, x, module.conv_dw, module.bn1, module.act1))
            out = _conv(graph, out, module.conv_pw, module.bn2, module.act2)
            return _add_shortcut(graph, module.shortcut, x, out)
        case blocks.MBConv():
            out = _conv(graph, x, module.conv_pw, module.bn1, module.act1)
            out = _emit(graph, module.se, _conv(graph, out, module.conv_dw, module.bn2, module.act2))
            return _add_shortcut(graph, module.shortcut, x, _conv(graph, out, module.conv_pwl, module.bn3))
        case blocks.SqueezeExcite():
            scale = _conv(graph, _mean(graph, x, keepdims=True), module.conv_reduce, act=module.act)
            return _multiply(graph, x, _conv(graph, scale, module.conv_expand, act=module.gate))
        case blocks.PoolSkip():
            return _channels(graph, _pool(graph, module.pool, x), module.missing)
        case blocks.Pool():
            return _mean(graph, x, keepdims=False)
        case nn.AdaptiveAvgPool2d(output_size=1):  # as a frame ends
            return _mean(graph, x, keepdims=True)
        case blocks.LinearAct():
            return _linear(graph, x, module.linear, module.act)
        case nn.Linear():
            return _linear(graph, x, module)
        case nn.Identity() | nn.Dropout():
            return x
    raise BadInput(f"{type(module).__name__}: no TFLite form is known for this module; convert it with litert-torch")


def _conv(
    graph: _Graph, x: int, conv: nn.Conv2d, bn: nn.BatchNorm2d | None = None, act: nn.Module | None = None
) -> int:
    weight, bias = conv.weight, conv.bias
    if bn is not None:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            weight, bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )  # fmt: skip
    assert bias is not None
    batch, height, width, _ = graph.shape(x)
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    values = {"strideW": stride, "strideH": stride, "padding": SAME}
    if kernel > 1 and not _same_is_symmetric(stride, height, width):
        x = _pad_images(graph, x, kernel // 2)
        values["padding"] = VALID
    values["fusedActivationFunction"] = FUSED.get(type(act), NONE)
    if conv.groups == 1:
        name, options, order = "CONV_2D", "Conv2DOptions", (0, 2, 3, 1)
    else:
        name, options, order = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", (1, 2, 3, 0)
        values["depthMultiplier"] = 1
    shape = (batch, -(-height // stride), -(-width // stride), conv.out_channels)
    inputs = [x, *_weights(graph, weight.permute(order), bias, act)]
    out = graph.operator(name, inputs, shape, options, of=conv, **values)
    return _unfused(graph, act, out)


def _linear(graph: _Graph, x: int, linear: nn.Linear, act: nn.Module | None = None) -> int:
    out = graph.operator(
        "FULLY_CONNECTED", [x, *_weights(graph, linear.weight, linear.bias, act)],
        (*graph.shape(x)[:-1], linear.out_features), "FullyConnectedOptions", of=linear,
        fusedActivationFunction=FUSED.get(type(act), NONE),
    )  # fmt: skip
    return _unfused(graph, act, out)


def _weights(graph: _Graph, weight: torch.Tensor, bias: torch.Tensor, act: nn.Module | None) -> list[int]:
    shift = 3 if isinstance(act, nn.Hardsigmoid) else 0
    return [graph.constant(weight.numpy()), graph.constant((bias + shift).numpy())]


def _unfused(graph: _Graph, act: nn.Module | None, x: int) -> int:
    """The part of an activation that could not be fused into the operator before it."""
    match act:
        case nn.Hardswish():
            return graph.operator("HARD_SWISH", [x], graph.shape(x), "HardSwishOptions")
        case nn.Sigmoid():
            return graph.operator("LOGISTIC", [x], graph.shape(x))
        case nn.Hardsigmoid():
            return _multiply(graph, x, graph.constant(np.array(1 / 6, np.float32)))
        case None | nn.Identity() | nn.ReLU() | nn.ReLU6():
            return x
    raise BadInput(f"{type(act).__name__}: no TFLite form is known for this activation; convert it with litert-torch")


def _add_shortcut(graph: _Graph, shortcut: nn.Module | None, x: int, out: int) -> int:
    if shortcut is None:
        return out
    return graph.operator("ADD", [out, _emit(graph, shortcut, x)], graph.shape(out), "AddOptions")


def _multiply(graph: _Graph, x: int, factor: int) -> int:
    return graph.operator("MUL", [x, factor], graph.shape(x), "MulOptions")


def _mean(graph: _Graph, x: int, keepdims: bool) -> int:
    batch, _, _, channels = graph.shape(x)
    shape = (batch, 1, 1, channels) if keepdims else (batch, channels)
    axes = graph.constant(np.array([1, 2], np.int32))
    return graph.operator("MEAN", [x, axes], shape, "ReducerOptions", keepDims=keepdims)


def _pool(graph: _Graph, pool: nn.AvgPool2d, x: int) -> int:
    """3x3 average pooling that leaves the padding out of the mean."""
    batch, height, width, channels = graph.shape(x)
    stride = pool.stride if isinstance(pool.stride, int) else pool.stride[0]
    shape = (batch, -(-height // stride), -(-width // stride), channels)
    values: dict[str, Any] = {"strideW": stride, "strideH": stride, "filterWidth": 3, "filterHeight": 3}
    if _same_is_symmetric(stride, height, width):
        return graph.operator("AVERAGE_POOL_2D", [x], shape, "Pool2DOptions", padding=SAME, **values)
    x = _pad_images(graph, x, 1)
    x = graph.operator("AVERAGE_POOL_2D", [x], shape, "Pool2DOptions", padding=VALID, **values)
    inside = nn.functional.avg_pool2d(torch.ones(1, 1, height, width), 3, stride, 1)  # as a part of the window
    return _multiply(graph, x, graph.constant(nhwc(1 / inside).numpy()))


def _channels(graph: _Graph, x: int, missing: int) -> int:
    """Appends zero channels, or cuts off channels at the end where the number is negative."""
    if missing > 0:
        return _pad(graph, x, np.array([(0, 0), (0, 0), (0, 0), (0, missing)], np.int32))
    if missing < 0:
        shape = (*graph.shape(x)[:3], graph.shape(x)[3] + missing)
        begin_size = [graph.constant(np.array(part, np.int32)) for part in ((0, 0, 0, 0), shape)]
        return graph.operator("SLICE", [x, *begin_size], shape, "SliceOptions")
    return x


def _pad_images(graph: _Graph, x: int, pixels: int) -> int:
    """Pads images with zeros on all four sides."""
    return _pad(graph, x, np.array([(0, 0), (pixels, pixels), (pixels, pixels), (0, 0)], np.int32))


def _pad(graph: _Graph, x: int, widths: NDArray[np.int32]) -> int:
    padded = zip(graph.shape(x), widths.tolist(), strict=True)
    shape = tuple(size + before + after for size, (before, after) in padded)
    return graph.operator("PAD", [x, graph.constant(widths)], shape, "PadOptions")


def _same_is_symmetric(stride: int, height: int, width: int) -> bool:
    """Whether TFLite's padding SAME is PyTorch's kernel // 2 on all sides: at stride 2 only for odd sizes."""
    return stride == 1 or (height % 2 == 1 and width % 2 == 1)
