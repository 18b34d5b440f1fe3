"""ONNX files of networks with a head: scores of pixels; boxes, with and without non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from mnas.export.checks import plain_copy
from mnas.export.onnx_dense import dense
from mnas.export.onnx_graph import OPSET, Graph
from mnas.io.size import Size, sides
from mnas.nn.boxes import CENTRE_SCALE, MAX_LOG_SIZE, SIZE_SCALE, default_boxes
from mnas.nn.dense import Dense
from mnas.nn.detection import DetectionNetwork, Threshold
from mnas.nn.features import Features
from mnas.nn.gates import clipped_gates
from mnas.nn.heads.ssdlite import SSDLite
from mnas.nn.segmentation import SegmentationNetwork

IR_VERSION = 8
INPUT = "images"
INT64 = TensorProto.INT64


def masks_model(network: SegmentationNetwork, size: Size) -> bytes:
    """`images` (1, c, h, w) to `logits` (1, num_classes, h, w), for images of this size."""
    graph, shape = _graph(network.backbone, network.classifier, size)
    (scores,) = dense(graph, _module(graph), INPUT, shape)
    return _written(graph, shape, {"logits": (scores, [1, "classes", *shape[2:]])})


def boxes_model(network: DetectionNetwork, size: Size) -> bytes:
    """`images` (1, c, h, w) to `boxes` (1, n, 4) in pixels and `scores` (1, n, num_classes), the background's first."""
    graph, shape = _graph(network.backbone, network.head, size)
    boxes, scores = _decoded(graph, shape)
    return _written(graph, shape, {"boxes": (boxes, [1, "n", 4]), "scores": (scores, [1, "n", "classes"])})


def detections_model(
    network: DetectionNetwork, size: Size, threshold: Threshold, *, witness: bool = False
) -> bytes:
    """`images` (1, c, h, w) to `boxes` (n, 4), `scores` (n,), `labels` (n,) from 1, after suppression, best first.

    As a `witness` it also gives what was suppressed, as `boxes_model` does.
    """
    graph, shape = _graph(network.backbone, network.head, size)
    boxes, scores = _decoded(graph, shape)
    found = _suppressed(graph, boxes, scores, threshold)
    shapes: dict[str, list[int | str]] = {"boxes": ["n", 4], "scores": ["n"], "labels": ["n"]}
    outputs = {name: (one, shapes[name]) for name, one in zip(shapes, found, strict=True)}
    if witness:
        outputs |= {"all_boxes": (boxes, [1, "all", 4]), "all_scores": (scores, [1, "all", "classes"])}
    return _written(graph, shape, outputs)


def _graph(backbone: Features, head: nn.Module, size: Size) -> tuple[Graph, list[int]]:
    """An empty graph of a network, and the shape of its input."""
    module = plain_copy(Dense(backbone, head, sides(size)))
    return Graph(clipped_gates(module)), [1, backbone.channels, *sides(size)]


def _module(graph: Graph) -> Dense:
    assert isinstance(graph.module, Dense)
    return graph.module


def _decoded(graph: Graph, shape: Sequence[int]) -> tuple[str, str]:
    """The names of boxes (1, n, 4) in pixels, inside the image, and of probabilities (1, n, num_classes)."""
    module = _module(graph)
    assert isinstance(module.head, SSDLite)
    scores, offsets = dense(graph, module, INPUT, shape)
    defaults = default_boxes(_map_sizes(module, shape), (shape[2], shape[3]))
    whole = defaults[:, 2:] - defaults[:, :2]
    sizes, halved, centres = (one.numpy()[None] for one in (whole, whole / 2, defaults[:, :2] + whole / 2))
    moves, logs = graph.several("Split", offsets, outputs=2, axis=2, num_outputs=2)
    moved = graph.node("Mul", graph.node("Div", moves, _number(graph, CENTRE_SCALE)), graph.weight(sizes))
    middle = graph.node("Add", moved, graph.weight(centres))
    limited = graph.node("Min", graph.node("Div", logs, _number(graph, SIZE_SCALE)), _number(graph, MAX_LOG_SIZE))
    halves = graph.node("Mul", graph.node("Exp", limited), graph.weight(halved))
    corners = graph.node("Concat", graph.node("Sub", middle, halves), graph.node("Add", middle, halves), axis=2)
    edges = graph.weight(np.array([shape[3], shape[2]] * 2, np.float32))
    inside = graph.node("Min", graph.node("Max", corners, _number(graph, 0.0)), edges)
    return inside, graph.node("Softmax", scores, axis=2)


def _suppressed(graph: Graph, boxes: str, scores: str, threshold: Threshold) -> list[str]:
    """The names of boxes (n, 4), scores (n,) and labels (n,): what `mnas.nn.detection.detections` computes.

    NonMaxSuppression takes the classes as images of one class each, since each looks at its own best boxes alone.
    """
    whole = graph.node("Transpose", graph.node("Squeeze", scores, _integers(graph, 0)), perm=[1, 0])  # (classes, n)
    objects = graph.node("Slice", whole, _integers(graph, 1), _integers(graph, 2**62), _integers(graph, 0))
    best, order = graph.several("TopK", objects, _few(graph, objects, threshold.per_class, axis=1), outputs=2, axis=1)
    candidates = graph.node("Gather", graph.node("Squeeze", boxes, _integers(graph, 0)), order, axis=0)  # (c, k, 4)
    kept = graph.node(
        "NonMaxSuppression", candidates, graph.node("Unsqueeze", best, _integers(graph, 1)),
        _integers(graph, threshold.per_class), _number(graph, threshold.overlap), _number(graph, threshold.score),
    )  # fmt: skip
    places = graph.node("Gather", kept, _integers(graph, 0, 2), axis=1)  # (m, 2): class, candidate
    found = graph.node("GatherND", best, places)
    ranked, ranking = graph.several("TopK", found, _few(graph, found, threshold.at_most, axis=0), outputs=2, axis=0)
    chosen = graph.node("Gather", places, ranking, axis=0)
    classes = graph.node("Squeeze", graph.node("Slice", chosen, *(_integers(graph, one) for one in (0, 1, 1))),
                         _integers(graph, 1))  # fmt: skip
    labels = graph.node("Add", classes, _integers(graph, 1))
    return [graph.node("GatherND", candidates, chosen), ranked, labels]


def _few(graph: Graph, x: str, at_most: int, *, axis: int) -> str:
    """The length of an axis, at most so many."""
    length = graph.node("Shape", x, start=axis, end=axis + 1)
    return graph.node("Min", length, _integers(graph, at_most))


def _map_sizes(module: Dense, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of each feature map that has default boxes."""
    assert isinstance(module.maps, Features)
    assert isinstance(module.head, SSDLite)
    sizes = [(-(-shape[2] // by), -(-shape[3] // by)) for by in module.maps.feature_info.reduction()]
    for _ in module.head.extra:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _number(graph: Graph, value: float) -> str:
    return graph.weight(np.array(value, np.float32))


def _integers(graph: Graph, *values: int) -> str:
    return graph.weight(np.array(values, np.int64))


def _written(graph: Graph, shape: Sequence[int], outputs: Mapping[str, tuple[str, Sequence[int | str]]]) -> bytes:
    """The file's content; `outputs`: name -> the value in the graph, and its shape."""
    value = helper.make_tensor_value_info
    for name, (inner, _) in outputs.items():
        graph.nodes.append(helper.make_node("Identity", [inner], [name]))
    described = [
        value(name, INT64 if name == "labels" else TensorProto.FLOAT, list(out)) for name, (_, out) in outputs.items()
    ]
    body = helper.make_graph(
        graph.nodes, "network", [value(INPUT, TensorProto.FLOAT, list(shape))], described, [*graph.weights.values()]
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
