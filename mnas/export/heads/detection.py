"""The files and pictures of networks for detection: boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from mnas.data.dense.geometry import inside
from mnas.data.dense.samples import Boxes
from mnas.export.dense_source import HeadSource
from mnas.export.heads.form import Likeness, Outputs
from mnas.io.size import Size, sides, sized
from mnas.monitor.overlays import boxed
from mnas.nn.boxes import clipped, decode, default_boxes
from mnas.nn.detection import DetectionNetwork, Detections, Threshold, detections
from mnas.nn.heads.ssdlite import SSDLite

SHOWN = 0.3
"""The least probability of a box that is drawn, and listed unless another one is stated."""
DISTINCT = 0.95
"""The part of a class's scores that must differ: which of two equal boxes is suppressed is left to the runtime."""
CLOSE = 1e-3
"""Boxes are the same where scores, and corners as parts of the larger ones, differ by no more."""


class BoxesForm:
    """See `Form`: outputs are boxes (n, 4), scores (n,) and labels (n,), an answer is `Detections`."""

    onnx: ClassVar[Mapping[str, str]] = {"onnx_raw": "model_raw.onnx", "onnx": "model.onnx"}
    source: ClassVar[Mapping[str, HeadSource]] = {"ssdlite": HeadSource(
        "network_boxes.py.j2", (SSDLite, default_boxes, decode, clipped, detections),
        "SSDLite({channels}, num_classes)", "the objects in an image file", SHOWN,
    )}  # fmt: skip
    output: ClassVar[Mapping[str, Any]] = {
        "boxes": "x1, y1, x2, y2 in pixels of the input", "scores": "probabilities",
        "labels": "from 1: the first class",
    }
    card: ClassVar[str] = "card_boxes.md.j2"

    def model(self, name: str, network: nn.Module, size: Size) -> bytes:
        assert isinstance(network, DetectionNetwork)
        from mnas.export.onnx_heads import boxes_model, detections_model  # onnx takes a second

        return boxes_model(network, size) if name == "onnx_raw" else detections_model(network, size, Threshold())

    def witness(self, network: nn.Module, size: Size) -> bytes | None:
        from mnas.export.onnx_heads import detections_model

        assert isinstance(network, DetectionNetwork)
        return detections_model(network, size, Threshold(), witness=True)

    def decided(self, raw: Outputs) -> bool:
        return all(len(one.unique()) >= DISTINCT * len(one) for one in raw[1][0, :, 1:].T)

    def raw(self, network: nn.Module, x: Tensor) -> Outputs:
        """Boxes (1, n, 4) and probabilities (1, n, num_classes)."""
        scores, offsets, defaults = network(x)
        return clipped(decode(offsets, defaults), (x.shape[-2], x.shape[-1])), scores.softmax(-1)

    def finished(self, raw: Outputs) -> Outputs:
        found = detections(raw[0][0], raw[1][0], Threshold())
        return found.boxes, found.scores, found.labels

    def of_file(self, outputs: Outputs, classes: int) -> Outputs | None:
        dimensions = [one.dim() for one in outputs]
        if dimensions == [3, 3] and outputs[1].shape[2] == classes:
            return self.finished(outputs)
        return outputs if dimensions == [2, 1, 1] else None

    def likeness(self, outputs: Outputs, expected: Outputs) -> Likeness:
        (boxes, scores, labels), (others, other_scores, other_labels) = outputs, expected
        if not len(scores) or not len(other_scores):
            return Likeness(float(len(scores) == len(other_scores)), 0.0)
        corners = (boxes[:, None] - others).abs().amax(-1) / others.abs().max().clamp(min=1)  # (n, m)
        apart = torch.maximum(corners, (scores[:, None] - other_scores).abs())
        apart = apart.masked_fill(labels[:, None] != other_labels, torch.inf)
        nearest = torch.cat([apart.amin(0), apart.amin(1)])
        same = nearest <= CLOSE
        return Likeness(float(same.float().mean()), float(nearest[same].max()) if same.any() else 0.0)

    def answer(self, outputs: Outputs, size: Size, height: int, width: int) -> Detections:
        boxes, scores, labels = (one.cpu() for one in outputs)
        rows, columns = sides(size)
        moved = boxes.float() * torch.tensor([width / columns, height / rows] * 2)
        return Detections(inside(moved, sized(height, width)), scores, labels)

    def rows(self, answer: Any, classes: tuple[str, ...], least: float | None) -> list[dict[str, Any]]:
        found = zip(answer.boxes.tolist(), answer.scores.tolist(), answer.labels.tolist(), strict=True)
        return [{"class": classes[label - 1], "probability": score, "box": box}
                for box, score, label in found if score >= (SHOWN if least is None else least)]  # fmt: skip

    def drawn(self, image: Image.Image, answer: Any, classes: tuple[str, ...]) -> Image.Image:
        return _drawn(image, answer, classes, SHOWN)

    def file(self, image: Image.Image, answer: Any, classes: tuple[str, ...], least: float | None) -> Image.Image:
        """The image with its boxes."""
        return _drawn(image, answer, classes, SHOWN if least is None else least)


def _drawn(image: Image.Image, answer: Boxes | Detections, classes: tuple[str, ...], least: float) -> Image.Image:
    """A truth's boxes with their names, or those of a prediction with their probabilities."""
    labels, names = answer.labels.tolist(), [classes[label - 1] for label in answer.labels.tolist()]
    if isinstance(answer, Boxes):
        return boxed(image, answer.boxes.tolist(), names, labels)
    seen = int((answer.scores >= least).sum())  # the best come first
    texts = [f"{name} {score:.0%}" for name, score in zip(names[:seen], answer.scores[:seen].tolist(), strict=True)]
    return boxed(image, answer.boxes[:seen].tolist(), texts, labels[:seen])
