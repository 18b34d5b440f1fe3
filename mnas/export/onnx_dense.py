"""Networks for segmentation and detection as ONNX models, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from mnas.errors import BadInput
from mnas.export.onnx_graph import Graph, conv, emit, mbconv, sequence
from mnas.nn import blocks
from mnas.nn.dense import Dense, MadeMaps
from mnas.nn.features import Features
from mnas.nn.heads.deeplabv3 import ASPP, DeepLabV3
from mnas.nn.heads.lraspp import LRASPP
from mnas.nn.heads.ssdlite import SSDLite
from mnas.space.operations import SSD_ANCHORS


class _Map(NamedTuple):
    """A feature map."""

    name: str
    shape: tuple[int, int, int]
    """Batch, height, width."""


def dense(graph: Graph, module: Dense, x: str, shape: Sequence[int]) -> list[str]:
    """Adds the nodes of feature maps and a head; returns the names of the outputs."""
    maps = _maps(graph, module.maps, x, shape)
    match module.head:
        case None:
            return [graph.node("Concat", *(graph.node("GlobalAveragePool", one.name) for one in maps), axis=1)]
        case SSDLite() as head:
            return _ssdlite(graph, head, maps)
        case LRASPP() as head:
            scores, classes = _lraspp(graph, head, *maps), _outputs(head.low_classifier)
        case DeepLabV3() as head:
            aspp, *others = head.children()
            scores, classes = sequence(graph, others, _aspp(graph, aspp, maps[-1])), _outputs(others[-1])
        case _:
            raise BadInput(f"{type(module.head).__name__}: no ONNX form is known for this head")
    return [_resized(graph, scores, (shape[0], classes, *module.size))]


def _maps(graph: Graph, module: nn.Module, x: str, shape: Sequence[int]) -> list[_Map]:
    match module:
        case MadeMaps():
            names = [emit(graph, conv, x) for conv in module.convs]
            sizes = list(module.sizes)
        case Features():
            names = []
            for number, part in enumerate(module.body()):
                if (number, True) in module.taps:
                    assert isinstance(part, blocks.MBConv)
                    expanded, x = mbconv(graph, part, x)
                    names.append(expanded)
                else:
                    x = emit(graph, part, x)
                if (number, False) in module.taps:
                    names.append(x)
            sizes = [(-(-shape[2] // by), -(-shape[3] // by)) for by in module.feature_info.reduction()]
        case _:
            raise BadInput(f"{type(module).__name__}: no ONNX form is known for these feature maps")
    return [_Map(name, (shape[0], *size)) for name, size in zip(names, sizes, strict=True)]


def _lraspp(graph: Graph, head: LRASPP, low: _Map, high: _Map) -> str:
    wide = graph.node("Mul", sequence(graph, head.cbr, high.name), sequence(graph, head.scale, high.name))
    batch, height, width = low.shape
    large = _resized(graph, wide, (batch, head.high_classifier.in_channels, height, width))
    scores = conv(graph, head.high_classifier, None, large)
    return graph.node("Add", scores, conv(graph, head.low_classifier, None, low.name))


def _aspp(graph: Graph, aspp: nn.Module, high: _Map) -> str:
    assert isinstance(aspp, ASPP)
    batch, height, width = high.shape
    branches = [sequence(graph, [*branch.children()], high.name) for branch in aspp.convs]
    # the last is of the image's mean
    branches[-1] = _resized(graph, branches[-1], (batch, _outputs(aspp.project[0]), height, width))
    return sequence(graph, aspp.project, graph.node("Concat", *branches, axis=1))


def _ssdlite(graph: Graph, head: SSDLite, maps: list[_Map]) -> list[str]:
    for layer in head.extra:
        batch, height, width = maps[-1].shape
        maps = [*maps, _Map(emit(graph, layer, maps[-1].name), (batch, -(-height // 2), -(-width // 2)))]
    outputs = []
    for predictors in (head.scores, head.offsets):
        rows = []
        for predictor, one in zip(predictors, maps, strict=True):
            values = _outputs([*predictor.children()][-1]) // SSD_ANCHORS
            batch, height, width = one.shape
            apart = _reshaped(graph, emit(graph, predictor, one.name), [batch, SSD_ANCHORS, values, height, width])
            last = graph.node("Transpose", apart, perm=[0, 3, 4, 1, 2])
            rows.append(_reshaped(graph, last, [batch, -1, values]))
        outputs.append(graph.node("Concat", *rows, axis=1))
    return outputs


def _outputs(conv: nn.Module) -> int:
    assert isinstance(conv, nn.Conv2d)
    return conv.out_channels


def _resized(graph: Graph, x: str, shape: Sequence[int]) -> str:
    """Bilinear, as torch.onnx exports it."""
    sizes = graph.weight(np.array(shape, np.int64))
    return graph.node("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")


def _reshaped(graph: Graph, x: str, shape: Sequence[int]) -> str:
    return graph.node("Reshape", x, graph.weight(np.array(shape, np.int64)))
