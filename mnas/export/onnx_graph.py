"""A module of mnas's blocks as an ONNX model, written node by node: thousands of layers in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mnas.errors import BadInput
from mnas.export.onnx_sizes import stated_sizes
from mnas.nn import blocks
from mnas.nn.dense import Dense
from mnas.nn.gates import clipped_gates
from mnas.nn.network import Network

OPSET = 18


def onnx_model(module: nn.Module, example: torch.Tensor, *, pool: str = "ReduceMean") -> onnx.ModelProto:
    """`module` in eval mode as a float32 model with one input (shaped as `example`) and one output, of a detector two.

    Batch normalisation is folded into the convolution before it, as runtimes do on loading. Convolutions and linear
    layers have the names that they have in `module`. `pool` is the operator of means.
    """
    graph = Graph(clipped_gates(module), pool)
    if isinstance(graph.module, Dense):
        from mnas.export.onnx_dense import dense  # which needs this module

        last = dense(graph, graph.module, "input", list(example.shape))
    else:
        last = [emit(graph, graph.module, "input")]
    return _model(graph, "input", list(example.shape), dict.fromkeys(last))


def network_model(network: Network, shape: Sequence[int | str], *, pool: str = "ReduceMean") -> onnx.ModelProto:
    """`network` as `onnx_model`, from `images` (b, c, h, w) to `logits` (b, n); a name in `shape` is a free size."""
    graph = Graph(clipped_gates(network), pool)
    emit(graph, graph.module, "images")
    graph.nodes[-1].output[0] = "logits"
    classes = network.get_parameter("classifier.bias").shape[0]
    model = _model(graph, "images", list(shape), {"logits": [shape[0], classes]})
    if isinstance(shape[-1], str):
        channels = {name: weight.dims[0] for name, weight in graph.weights.items() if weight.dims}
        model.graph.value_info.extend(stated_sizes(graph.nodes, channels, "images", shape))
    return model


def free_batch_model(network: Network, shape: Sequence[int]) -> onnx.ModelProto:
    """`network` as `network_model`, from `images` (b, c, h, w) with any b, pooled by an operator of its own.

    Of a ReduceMean, which is written otherwise, onnxruntime 1.32 has no int8 form.
    """
    return network_model(network, ("batch", *shape[1:]), pool="GlobalAveragePool")


def _model(
    graph: Graph, first: str, shape: list[Any], last: Mapping[str, list[Any] | None]
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        graph.nodes, type(graph.module).__name__,
        [value(first, TensorProto.FLOAT, shape)],
        [value(name, TensorProto.FLOAT, out_shape) for name, out_shape in last.items()], [*graph.weights.values()],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


class Graph:
    """The nodes and weights of a model; every value gets a unique name."""

    def __init__(self, module: nn.Module, pool: str = "ReduceMean") -> None:
        self.module, self.pool = module, pool
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self._names = {part: name for name, part in module.named_modules()}

    def weight(self, array: NDArray[Any], of: nn.Module | None = None, name: str = "") -> str:
        """Adds a weight, under the name that it has in `of`; returns its name."""
        name = f"w{len(self.weights)}" if of is None else f"{self._names[of]}.{name}"
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, op: str, *inputs: str, of: nn.Module | None = None, **attributes: Any) -> str:
        """Adds an operator, under the name of the module that it is `of`; returns its output."""
        out = f"x{len(self.nodes)}"
        name = out if of is None else self._names[of]
        self.nodes.append(helper.make_node(op, inputs, [out], name=name, **attributes))
        return out

    def several(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Adds an operator of several outputs; returns their names."""
        out = [f"x{len(self.nodes)}/{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, out, name=f"x{len(self.nodes)}", **attributes))
        return out


def emit(graph: Graph, module: nn.Module, x: str) -> str:
    """Adds the nodes of `module` applied to value `x`; returns the name of the output."""
    match module:
        case Network():
            x = emit(graph, module.conv_head, emit(graph, module.blocks, emit(graph, module.stem, x)))
            return emit(graph, module.classifier, emit(graph, module.hidden, emit(graph, module.pool, x)))
        case nn.Sequential():
            return sequence(graph, module, x)
        case blocks.ConvBNAct():
            out = emit(graph, module.act1, conv(graph, module.conv, module.bn1, x))
            return _add_shortcut(graph, module.shortcut, x, out)
        case blocks.SepConv():
            out = emit(graph, module.act1, conv(graph, module.conv_dw, module.bn1, x))
            out = conv(graph, module.conv_pw, module.bn2, emit(graph, module.se, out))
            return _add_shortcut(graph, module.shortcut, x, emit(graph, module.act2, out))
        case blocks.MBConv():
            return mbconv(graph, module, x)[1]
        case blocks.SqueezeExcite():
            scale = _mean(graph, x, keepdims=1)
            scale = emit(graph, module.act, conv(graph, module.conv_reduce, None, scale))
            return graph.node("Mul", x, emit(graph, module.gate, conv(graph, module.conv_expand, None, scale)))
        case blocks.PoolSkip():
            return _pool_skip(graph, module, x)
        case blocks.Pool():
            return _mean(graph, x, keepdims=0)
        case nn.AdaptiveAvgPool2d(output_size=1):  # as a frame ends
            return graph.node("GlobalAveragePool", x)
        case blocks.LinearAct():
            return emit(graph, module.act, emit(graph, module.linear, x))
        case nn.Linear():
            weights = [graph.weight(_array(getattr(module, name)), module, name) for name in ("weight", "bias")]
            return graph.node("Gemm", x, *weights, of=module, transB=1)
        case nn.Identity() | nn.Dropout():
            return x
        case nn.ReLU():
            return graph.node("Relu", x)
        case nn.Hardtanh():  # ReLU6 is one
            bounds = [graph.weight(np.array(bound, np.float32)) for bound in (module.min_val, module.max_val)]
            return graph.node("Clip", x, *bounds)
        case nn.Hardswish():
            return graph.node("HardSwish", x)
        case nn.Sigmoid():
            return graph.node("Sigmoid", x)
    raise BadInput(f"{type(module).__name__}: no ONNX form is known for this module; export the network to a file")


def sequence(graph: Graph, modules: Sequence[nn.Module] | nn.Sequential, x: str) -> str:
    modules = list(modules)
    for module, following in zip_longest(modules, modules[1:]):
        if isinstance(module, nn.Conv2d):
            x = conv(graph, module, following if isinstance(following, nn.BatchNorm2d) else None, x)
        elif not isinstance(module, nn.BatchNorm2d):  # which the convolution before it has
            x = emit(graph, module, x)
    return x


def mbconv(graph: Graph, block: blocks.MBConv, x: str) -> tuple[str, str]:
    """What its expansion gives, and its output."""
    expanded = emit(graph, block.act1, conv(graph, block.conv_pw, block.bn1, x))
    out = emit(graph, block.act2, conv(graph, block.conv_dw, block.bn2, expanded))
    out = conv(graph, block.conv_pwl, block.bn3, emit(graph, block.se, out))
    return expanded, _add_shortcut(graph, block.shortcut, x, out)


def conv(graph: Graph, conv: nn.Conv2d, bn: nn.BatchNorm2d | None, x: str) -> str:
    weight, bias = _folded(conv, bn)
    pad = conv.dilation[0] * (conv.kernel_size[0] // 2)
    dilations = {"dilations": list(conv.dilation)} if conv.dilation[0] > 1 else {}
    return graph.node(
        "Conv", x, graph.weight(weight, conv, "weight"), graph.weight(bias, conv, "bias"), of=conv,
        kernel_shape=list(conv.kernel_size), strides=list(conv.stride), pads=[pad] * 4, group=conv.groups, **dilations,
    )  # fmt: skip


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias of a convolution that computes bn(conv(x)) in eval mode."""
    weight = _array(conv.weight)
    bias = np.zeros(len(weight), np.float32) if conv.bias is None else _array(conv.bias)
    if bn is None:
        return weight, bias
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = _array(bn.weight) / np.sqrt(_array(bn.running_var) + np.float32(bn.eps))
    return weight * scale[:, None, None, None], _array(bn.bias) + (bias - _array(bn.running_mean)) * scale


def _add_shortcut(graph: Graph, shortcut: nn.Module | None, x: str, out: str) -> str:
    return out if shortcut is None else graph.node("Add", out, emit(graph, shortcut, x))


def _pool_skip(graph: Graph, skip: blocks.PoolSkip, x: str) -> str:
    stride = skip.pool.stride if isinstance(skip.pool.stride, int) else skip.pool.stride[0]
    x = graph.node("AveragePool", x, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4, count_include_pad=0)
    if skip.missing > 0:
        return graph.node("Pad", x, graph.weight(np.array([0, 0, 0, 0, 0, skip.missing, 0, 0], np.int64)))
    if skip.missing < 0:
        starts_ends_axes = ([0], [skip.missing], [1])
        return graph.node("Slice", x, *(graph.weight(np.array(part, np.int64)) for part in starts_ends_axes))
    return x


def _mean(graph: Graph, x: str, keepdims: int) -> str:
    if graph.pool == "GlobalAveragePool":
        out = graph.node(graph.pool, x)
        return out if keepdims else graph.node("Flatten", out)
    return graph.node("ReduceMean", x, graph.weight(np.array([2, 3], np.int64)), keepdims=keepdims)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().contiguous().numpy()
    return array
